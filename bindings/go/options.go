package infini

import (
	"fmt"

	"example.org/infini/internal/native"
)

// Options are values by name, such as {"threads": 2, "temperature": 0.8, "stop": "\n"}; nil leaves every option at its
// default. Values may be integers, floats, strings and bools. DescribeOptions lists the names. A function that is given
// options reads them and keeps nothing.
type Options map[string]any

// DescribeOptions returns the table of all options as JSON: a list of {"name", "type", "default", "least", "greatest",
// "choices", "help"}.
func DescribeOptions() (string, error) {
	return text(func(b []byte, n *uint64) error { return native.Infini_options_describe(b, n) })
}

// with runs do with the options in the library's form.
func (o Options) with(do func(options uintptr) error) error {
	if len(o) == 0 {
		return do(0)
	}
	var options uintptr
	if err := native.Infini_options_new(&options); err != nil {
		return err
	}
	defer native.Infini_options_free(options)
	for name, value := range o {
		if err := setOption(options, name, value); err != nil {
			return err
		}
	}
	return do(options)
}

func setOption(options uintptr, name string, value any) error {
	text, _ := value.(string)
	if err := noZero(name, text); err != nil {
		return err
	}
	switch v := value.(type) {
	case int:
		return native.Infini_options_set_int(options, name, int64(v))
	case int32:
		return native.Infini_options_set_int(options, name, int64(v))
	case int64:
		return native.Infini_options_set_int(options, name, v)
	case bool:
		return native.Infini_options_set_int(options, name, int64(flag(v)))
	case float32:
		return native.Infini_options_set_double(options, name, float64(v))
	case float64:
		return native.Infini_options_set_double(options, name, v)
	case string:
		return native.Infini_options_set_string(options, name, v)
	}
	return &Error{Status: InvalidArgument,
		Message: fmt.Sprintf("option %q: a value is an integer, a float, a string or a bool, not %T", name, value)}
}
