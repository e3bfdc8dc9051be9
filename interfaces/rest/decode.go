package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
)

// maxWrongFields is where decoding gives up, so that a body made of mistakes does not get an answer larger than itself.
const maxWrongFields = 20

// decodeObject fills the struct that target points to from a body, which must be one JSON object. Each of its members
// must be a field of the struct, by the exact name in the json tag, given once and of the field's type; null is a value
// for a pointer to a pointer only, which then points to nil. The error is a domain.Invalid one and names every member that is wrong. Fields without a member stay as they
// are.
//
// Fields may be strings, ints, time.Times, pointers to these, and json.RawMessages, which take any value unread.
func decodeObject(body []byte, target any) error {
	if err := checkSyntax(body); err != nil {
		return err
	}
	if kind := kindOf(body); kind != "an object" {
		return domain.Errorf(domain.Invalid, "The body must be a JSON object, but is %s.", kind)
	}
	o := object{value: reflect.ValueOf(target).Elem(), seen: map[string]bool{}}
	decoder := json.NewDecoder(bytes.NewReader(body))
	_, err := decoder.Token() // the opening brace
	for err == nil && decoder.More() && len(o.wrong) < maxWrongFields {
		var name json.Token
		var value json.RawMessage
		if name, err = decoder.Token(); err == nil {
			err = decoder.Decode(&value)
		}
		if err == nil {
			o.member(name.(string), value)
		}
	}
	if err != nil {
		return fmt.Errorf("split a JSON object whose syntax was checked: %w", err)
	}
	return domain.InvalidFields(o.wrong)
}

// object is a struct that is being filled.
type object struct {
	value reflect.Value
	seen  map[string]bool
	wrong []domain.FieldError
}

func (o *object) member(name string, value json.RawMessage) {
	field, ok := o.field(name)
	switch {
	case !ok:
		o.refuse(name, "is not a field of this request, which has: %s.", strings.Join(fieldNames(o.value.Type()), ", "))
	case o.seen[name]:
		o.refuse(name, "is given twice.")
	default:
		if problem := assign(field, value); problem != "" {
			o.refuse(name, "must be %s.", problem)
		}
	}
	o.seen[name] = true
}

func (o *object) refuse(name, format string, args ...any) {
	name = shorten(name)
	o.wrong = append(o.wrong, domain.FieldError{Field: name, Message: name + " " + fmt.Sprintf(format, args...)})
}

func (o *object) field(name string) (reflect.Value, bool) {
	i := slices.Index(fieldNames(o.value.Type()), name)
	if i < 0 {
		return reflect.Value{}, false
	}
	return o.value.Field(i), true
}

func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// assign sets a field, or returns what the value must be and what it is instead.
func assign(field reflect.Value, value json.RawMessage) (problem string) {
	if raw, ok := field.Addr().Interface().(*json.RawMessage); ok {
		*raw = value
		return ""
	}
	if field.Kind() == reflect.Pointer {
		element := reflect.New(field.Type().Elem())
		if element.Elem().Kind() == reflect.Pointer && kindOf(value) == "null" {
			field.Set(element)
			return ""
		}
		problem = assign(element.Elem(), value)
		if problem == "" {
			field.Set(element)
		}
		return problem
	}
	if at, ok := field.Addr().Interface().(*time.Time); ok {
		return assignTime(at, value)
	}
	if field.Kind() == reflect.Int {
		return assignInt(field, value)
	}
	return assignString(field, value)
}

func assignString(field reflect.Value, value json.RawMessage) (problem string) {
	if kind := kindOf(value); kind != "a string" {
		return "a string, but is " + kind
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "a string"
	}
	field.SetString(text)
	return ""
}

func assignInt(field reflect.Value, value json.RawMessage) (problem string) {
	if kind := kindOf(value); kind != "a number" {
		return "a whole number, but is " + kind
	}
	n, err := strconv.Atoi(string(value))
	if errors.Is(err, strconv.ErrRange) {
		return "a whole number of at most 18 digits, but is " + shorten(string(value))
	}
	if err != nil {
		return "a whole number without a fraction or an exponent, but is " + shorten(string(value))
	}
	field.SetInt(int64(n))
	return ""
}

func assignTime(at *time.Time, value json.RawMessage) (problem string) {
	const form = "a time in RFC 3339 such as \"2030-01-31T12:00:00Z\""
	if kind := kindOf(value); kind != "a string" {
		return form + ", but is " + kind
	}
	if err := json.Unmarshal(value, at); err != nil {
		return form + ", but is " + shorten(string(value))
	}
	return ""
}

// kindOf says what a JSON value is, by its first character.
func kindOf(value []byte) string {
	switch bytes.TrimLeft(value, " \t\r\n")[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// checkSyntax tells where a body stops being one JSON value in UTF-8.
func checkSyntax(body []byte) error {
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return domain.Errorf(domain.Invalid, "The body is empty. Send a JSON object.")
	}
	if !utf8.Valid(body) {
		return domain.Errorf(domain.Invalid, "The body is not valid UTF-8 at %s.", place(body, invalidAt(body)))
	}
	var value json.RawMessage
	err := json.Unmarshal(body, &value)
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	at := max(0, int(syntax.Offset)-1)
	// encoding/json tells these two from the rest by their texts only.
	switch text := syntax.Error(); {
	case strings.HasPrefix(text, "unexpected end"):
		return domain.Errorf(domain.Invalid, "The body is not valid JSON: it ends too early, at %s.", place(body, len(body)))
	case strings.HasSuffix(text, "exceeded max depth"):
		return domain.Errorf(domain.Invalid, "The body is nested too deeply.")
	}
	unexpected, _ := utf8.DecodeRune(body[at:])
	return domain.Errorf(domain.Invalid, "The body is not valid JSON: unexpected %q at %s.", unexpected, place(body, at))
}

func invalidAt(body []byte) int {
	at := 0
	for at < len(body) {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// place says where a byte stands, as editors count: from 1, columns in characters.
func place(body []byte, at int) string {
	before := body[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[start:])+1)
}
