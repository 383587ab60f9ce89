package adamd

// Code is the kind of a problem, the end of its type. A code is an error too, so that
//
//	errors.Is(err, adamd.Stale)
//
// tells whether a call was refused for it. A newer server may have codes that are not listed here;
// they come as they are.
type Code string

func (c Code) Error() string { return "adamd: " + string(c) }

// The codes of adamd. docs/protocol.md says when each one comes.
const (
	MalformedJSON        Code = "malformed-json"
	MalformedSafetensors Code = "malformed-safetensors"
	MalformedRequest     Code = "malformed-request"
	UnknownField         Code = "unknown-field"
	InvalidQuery         Code = "invalid-query"

	Quarantined Code = "quarantined"

	NoSuchPath      Code = "no-such-path"
	NoSuchOptimizer Code = "no-such-optimizer"
	NoSuchParam     Code = "no-such-param"
	NoSuchGroup     Code = "no-such-group"
	NoSuchWorker    Code = "no-such-worker"

	MethodNotAllowed     Code = "method-not-allowed"
	NotAcceptable        Code = "not-acceptable"
	UnsupportedMediaType Code = "unsupported-media-type"

	NameTaken          Code = "name-taken"
	RoundOpen          Code = "round-open"
	RoundClosed        Code = "round-closed"
	RoundTimeout       Code = "round-timeout"
	RoundEnded         Code = "round-ended"
	RoundConflict      Code = "round-conflict"
	AlreadyContributed Code = "already-contributed"
	Stale              Code = "stale"
	NoDataDir          Code = "no-data-dir"
	NoSuchStep         Code = "no-such-step"

	LengthRequired     Code = "length-required"
	BodyTooLarge       Code = "body-too-large"
	HeaderTooLarge     Code = "header-too-large"
	PreconditionFailed Code = "precondition-failed"
	ExpectationFailed  Code = "expectation-failed"

	InvalidValue      Code = "invalid-value"
	InvalidOption     Code = "invalid-option"
	UnsupportedOption Code = "unsupported-option"
	InvalidName       Code = "invalid-name"
	DuplicateParam    Code = "duplicate-param"
	UnknownParam      Code = "unknown-param"
	MissingParam      Code = "missing-param"
	ShapeMismatch     Code = "shape-mismatch"
	DTypeMismatch     Code = "dtype-mismatch"
	NonFinite         Code = "non-finite"
	LimitExceeded     Code = "limit-exceeded"
	Empty             Code = "empty"
	StateMismatch     Code = "state-mismatch"
	InvalidSchedule   Code = "invalid-schedule"
	ScheduleEnded     Code = "schedule-ended"
	KeyReused         Code = "key-reused"

	Draining   Code = "draining"
	Busy       Code = "busy"
	Recovering Code = "recovering"
	DiskFailed Code = "disk-failed"

	OutOfMemory Code = "out-of-memory"
	OutOfDisk   Code = "out-of-disk"
)
