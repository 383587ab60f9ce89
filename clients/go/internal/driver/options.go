package main

import "strings"

const (
	gradients = "grad_scale nonfinite max_grad_norm norm_type error_if_nonfinite clip_value"
	settings  = gradients + " aggregation input max_consecutive_nonfinite"
)

// known are the options that this driver passes on, by op; an op that is not here has none.
var known = map[string]string{
	"client":            "url retries timeout_ms deadline_ms",
	"create":            "algorithm defaults param_groups schedule " + settings,
	"step":              "key worker weight based_on if_match minimal dtype param_groups " + gradients,
	"params":            "dtype wait if_none_match",
	"param":             "param dtype",
	"list":              "prefix page",
	"configure":         "changes",
	"param_groups":      "data",
	"state":             "param data",
	"add_param_group":   "group",
	"patch_param_group": "index changes",
	"put_state_dict":    "load",
	"history":           "last",
	"changes":           "last",
	"remove_worker":     "worker",
	"events":            "last_event_id take",
	"rollback":          "step",
	"fork":              "name step",
}

// unknownOption is an option of the call that would be passed over; empty where there is none.
func unknownOption(c *call) string {
	if name := outside(c.Options, known[c.Op]); name != "" {
		return name
	}
	if c.Op == "configure" {
		return outside(options(c.Options.object("changes")), settings)
	}
	return ""
}

func outside(o options, names string) string {
	for name := range o {
		if !strings.Contains(" "+names+" ", " "+name+" ") {
			return name
		}
	}
	return ""
}
