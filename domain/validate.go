package domain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on what a request may carry. Inputs and outputs follow AWS Lambda's 6 MB for synchronous invocations.
const (
	MaxNameLength        = 100     // characters of a name
	MaxDescriptionLength = 1000    // characters of a description
	MaxCodeBytes         = 1 << 20 // bytes of a function's source
	MaxInputBytes        = 6 << 20 // bytes of an execution's JSON input
	MaxOutputBytes       = 6 << 20 // bytes of an execution's JSON output
	MaxJSONDepth         = 100     // nested arrays and objects in an input or an output
)

// checks collects what is wrong with a request, so that one answer names every field.
type checks struct{ fields []FieldError }

func (c *checks) require(ok bool, field, format string, args ...any) {
	if !ok {
		c.fields = append(c.fields, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checks) err() error { return InvalidFields(c.fields) }

// text checks a value that people read: UTF-8, without NUL (which Postgres text cannot hold), at most max characters.
func (c *checks) text(field, value string, max int) {
	c.require(utf8.ValidString(value), field, "%s must be valid UTF-8 text.", field)
	c.require(!strings.ContainsRune(value, 0), field, "%s must not contain a NUL character.", field)
	n := utf8.RuneCountInString(value)
	c.require(n <= max, field, "%s must be at most %d characters long, but has %d.", field, max, n)
}

// name checks a text that must be there and stands in one line.
func (c *checks) name(field, value string) {
	c.require(strings.TrimSpace(value) != "", field, "%s must not be empty.", field)
	c.require(!strings.ContainsFunc(value, invisible), field, "%s must not contain line breaks or other control characters.", field)
	c.text(field, value, MaxNameLength)
}

func (c *checks) between(field string, value, low, high int) {
	c.require(value >= low && value <= high, field, "%s must be between %d and %d, but is %d.", field, low, high, value)
}

// CheckJSON tells what keeps data from being a JSON value that VoltRun stores: it must be one whole value in valid
// UTF-8, at most maxBytes long and nested at most MaxJSONDepth deep. The field names it in the message.
func CheckJSON(field string, data []byte, maxBytes int) error {
	if len(data) > maxBytes {
		return Errorf(TooLarge, "%s must be at most %d bytes of JSON, but has %d.", field, maxBytes, len(data))
	}
	var c checks
	c.require(utf8.Valid(data), field, "%s must be valid UTF-8.", field)
	depth := jsonDepth(data)
	c.require(depth <= MaxJSONDepth, field, "%s must be nested at most %d levels deep, but is %d deep.", field, MaxJSONDepth, depth)
	if len(c.fields) == 0 {
		c.require(json.Valid(data), field, "%s must be a JSON value.", field)
	}
	return c.err()
}

// CompactJSON returns data without the white space between its tokens. data must be valid JSON.
func CompactJSON(data []byte) json.RawMessage {
	var buf bytes.Buffer
	if err := json.Compact(&buf, data); err != nil {
		return data
	}
	return buf.Bytes()
}

// jsonDepth is how deep arrays and objects nest in data, counted without recursion so that a hostile document cannot
// exhaust a stack.
func jsonDepth(data []byte) int {
	depth, deepest := 0, 0
	inString := false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case inString && b == '\\':
			i++
		case b == '"':
			inString = !inString
		case inString:
		case b == '{' || b == '[':
			depth++
			deepest = max(deepest, depth)
		case b == '}' || b == ']':
			depth--
		}
	}
	return deepest
}

// invisible tells whether a character could make a name look like another one or break a line: control and format
// characters, such as those that turn the direction of writing. The joiners are letters' parts in many scripts.
func invisible(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return r != 0 && r != nonJoiner && r != joiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
