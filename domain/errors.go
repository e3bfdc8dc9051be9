package domain

import (
	"errors"
	"fmt"
)

// Code says what kind of refusal an Error is. The HTTP edge turns it into a status in one place.
type Code string

// The kinds of refusal.
const (
	Invalid      Code = "invalid"           // the request itself is wrong; sending it again cannot help
	Unauthorized Code = "unauthorized"      // who is asking is not known, or not any longer
	Forbidden    Code = "forbidden"         // who is asking is known, and may not
	NotFound     Code = "not_found"         // it does not exist, or belongs to somebody else: the two look alike
	Conflict     Code = "conflict"          // right in form, but not in the state that things are in now
	KeyReused    Code = "key_reused"        // another request was made under the same idempotency key
	TooLarge     Code = "too_large"         // over a limit in bytes
	Busy         Code = "too_many_requests" // the caller already keeps VoltRun as busy as it may; see Error.RetryAfter
	Unavailable  Code = "unavailable"       // VoltRun cannot do it now; sending it again later may help
)

// Error is a refusal that is meant for the person who asked: Message is a whole sentence that names the value and says
// what to do. It never carries anything internal.
type Error struct {
	Code    Code
	Message string
	Fields  []FieldError // for Invalid: every field that is wrong, in the order in which they were checked
}

// FieldError says what is wrong with one field of a request body.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// IsCode tells whether err is, or wraps, an Error with that code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// InvalidFields makes the Error for a request with these wrong fields, or nil when there are none. The message is the
// first field's, so that a client that shows only the message still shows something true.
func InvalidFields(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	message := fields[0].Message
	if more := len(fields) - 1; more > 0 {
		message = fmt.Sprintf("%s (and %d more, see fields)", message, more)
	}
	return &Error{Code: Invalid, Message: message, Fields: fields}
}
