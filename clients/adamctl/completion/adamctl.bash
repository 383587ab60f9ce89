# adamctl.bash: completion of adamctl's commands, options, optimizers and files, for bash.

_adamctl() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='ls show groups params history watch get put create step set workers round snapshot
		rollback fork rm bench'
	local common='--url --json --retries --timeout --help'
	local options=''
	local i word command='' place=0 server=()
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--url)
			server=(--url "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		--retries | --timeout | --dtype | --load | --out | --worker | --weight | --based-on | --if-match | --key | \
			--group | --count | --from | --remove | --last | --numel | --tensors | --steps | --parallel) ((i++)) ;;
		-*) ;;
		*)
			if [ -z "$command" ]; then
				command=$word
			else
				((place++))
			fi
			;;
		esac
	done
	case $previous in
	--dtype)
		mapfile -t COMPREPLY < <(compgen -W 'f32 f64 bf16 f16' -- "$current")
		return
		;;
	--load)
		mapfile -t COMPREPLY < <(compgen -W 'everything params' -- "$current")
		return
		;;
	--out)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	--url | --retries | --timeout | --worker | --weight | --based-on | --if-match | --key | --group | --count | \
		--from | --remove | --last | --numel | --tensors | --steps | --parallel) return ;;
	esac
	case $command in
	ls | params) options='--names' ;;
	history) options='--last' ;;
	watch) options='--count --from' ;;
	get) options='--dtype --state' ;;
	put) options='--load' ;;
	step) options='--out --worker --weight --based-on --if-match --key' ;;
	set) options='--group' ;;
	workers) options='--remove' ;;
	round) options='--drop' ;;
	bench) options='--numel --tensors --steps --parallel' ;;
	esac
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$current")
	elif [ -z "$command" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
	elif [ "$command" = rm ] || { [ $place = 0 ] && [ "$command" != create ] && [ "$command" != bench ]; }; then
		mapfile -t COMPREPLY < <(compgen -W \
			"$(adamctl ls --names --retries 0 --timeout 2 "${server[@]}" 2>/dev/null)" -- "$current")
	elif [ $place = 1 ]; then
		case $command in
		get | put | create | step) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
		set)
			compopt -o nospace
			mapfile -t COMPREPLY < <(compgen -W 'lr= betas= eps= weight_decay= amsgrad= maximize= schedule=
				grad_scale= nonfinite= max_grad_norm= norm_type= error_if_nonfinite= clip_value= aggregation=
				input= max_consecutive_nonfinite=' -- "$current")
			;;
		esac
	fi
}
complete -F _adamctl adamctl
