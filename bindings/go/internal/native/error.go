package native

import (
	"io"
	"strconv"
	"strings"
)

// ErrorOf makes the error of a status, the system's errno (0: none) and a message. The public package sets it before
// anything is called.
var ErrorOf func(status, errno int, message string) error

const end = 1 // INFINI_END

// errorOf reads what the C side hands over: "status errno message".
func errorOf(text string) error {
	parts := strings.SplitN(text, " ", 3)
	status, _ := strconv.Atoi(parts[0])
	if status == end {
		return io.EOF
	}
	errno, _ := strconv.Atoi(parts[1])
	return ErrorOf(status, errno, parts[2])
}
