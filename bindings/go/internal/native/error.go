package native

import (
	"io"
	"strconv"
	"strings"
)

// ErrorOf makes the error of a status and its message. The public package sets it before anything is called.
var ErrorOf func(status int, message string) error

const end = 1 // INFINI_END

// errorOf reads what the C side hands over: "status message".
func errorOf(text string) error {
	number, message, _ := strings.Cut(text, " ")
	status, _ := strconv.Atoi(number)
	if status == end {
		return io.EOF
	}
	return ErrorOf(status, message)
}
