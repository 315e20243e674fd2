package infini

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"

	"example.org/infini/internal/native"
)

// Options are values by name, such as {"threads": 2, "temperature": 0.8, "stop": []string{"\n", "The end"}}; nil leaves
// every option at its default. A value may be an integer, a float or a string of any type, a json.Number, a bool (of an
// option that is 0 or 1) and, of "stop", a list of strings. DescribeOptions lists the names, and what takes each:
// a model refuses options of a session, and a session those of a model. A function that is given options reads them and keeps nothing.
type Options map[string]any

// with runs do with the options in the library's form.
func (o Options) with(do func(options uintptr) error) error {
	if len(o) == 0 {
		return do(0)
	}
	var options uintptr
	if err := native.Infini_options_create(&options); err != nil {
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

// withTask does the same with the task of a call that no object runs.
func (o Options) withTask(ctx context.Context, do func(options, task uintptr) error) error {
	return o.with(func(options uintptr) error {
		w := begin(ctx, 0)
		defer w.end()
		return w.do(func(task uintptr) error { return do(options, task) })
	})
}

func setOption(options uintptr, name string, value any) error {
	if err := noZero(name); err != nil {
		return err
	}
	setText := func(text string) error {
		if err := noZero(text); err != nil {
			return err
		}
		return native.Infini_options_set_string(options, name, text)
	}
	if number, ok := value.(json.Number); ok {
		if i, err := number.Int64(); err == nil {
			return native.Infini_options_set_int(options, name, i)
		}
		f, err := number.Float64()
		if err != nil {
			return &Error{Status: InvalidArgument, Message: fmt.Sprintf("option %q is no number: %s", name, number)}
		}
		return native.Infini_options_set_double(options, name, f)
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return native.Infini_options_set_int(options, name, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if v.Uint() <= math.MaxInt64 {
			return native.Infini_options_set_int(options, name, int64(v.Uint()))
		}
		return native.Infini_options_set_double(options, name, float64(v.Uint()))
	case reflect.Bool:
		if isFlag(name) {
			return native.Infini_options_set_int(options, name, int64(flags(v.Bool(), false)))
		}
	case reflect.Float32, reflect.Float64:
		return native.Infini_options_set_double(options, name, v.Float())
	case reflect.String:
		return setText(v.String())
	case reflect.Slice, reflect.Array:
		if stops, ok := stopsOf(v); ok && name == "stop" {
			return setText(stops)
		}
	}
	return &Error{Status: InvalidArgument, Message: fmt.Sprintf("option %q: a value is an integer, a float or a string, a bool where it is "+
		"0 or 1, a list of strings for \"stop\"; not %T", name, value)}
}

// stopsOf writes a list of strings as the library takes them.
func stopsOf(list reflect.Value) (string, bool) {
	escape := strings.NewReplacer("\\", "\\\\", "\n", "\\n")
	stops := make([]string, list.Len())
	for i := range stops {
		stop := list.Index(i)
		if stop.Kind() == reflect.Interface {
			stop = stop.Elem()
		}
		if stop.Kind() != reflect.String || stop.Type() == reflect.TypeOf(json.Number("")) {
			return "", false
		}
		stops[i] = escape.Replace(stop.String())
	}
	return strings.Join(stops, "\n"), true
}

var (
	flagsOnce sync.Once
	noFlags   = map[string]bool{} // options that are not 0 or 1
)

// isFlag reports whether an option takes a bool; also true where there is no such option, which the library says better.
func isFlag(name string) bool {
	flagsOnce.Do(func() {
		table, _ := DescribeOptions()
		for _, o := range table {
			noFlags[o.Name] = !(o.Type == "int" && o.Least != nil && *o.Least == 0 && o.Greatest != nil && *o.Greatest == 1)
		}
	})
	return !noFlags[name]
}
