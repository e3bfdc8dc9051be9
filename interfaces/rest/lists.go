package rest

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// pageSize is how many items a page of a list has.
type pageSize struct{ usual, most int }

// The executions of an account go on for ever. Its functions and keys are so few that a client which knows nothing of
// pages sees them all.
var (
	executionsPage = pageSize{usual: 50, most: 200}
	functionsPage  = pageSize{usual: 1000, most: 1000}
	keysPage       = pageSize{usual: 1000, most: 1000}
)

// listQuery reads the part of an address after the question mark, and keeps what is wrong with it.
type listQuery struct {
	values    url.Values
	malformed error
	wrong     []domain.FieldError
}

func newListQuery(r *request) *listQuery {
	values, err := url.ParseQuery(r.URL.RawQuery)
	return &listQuery{values: values, malformed: err}
}

// refusal says what is wrong, nil when nothing is.
func (q *listQuery) refusal() error {
	if q.malformed != nil {
		return domain.Errorf(domain.Invalid, "The part of the address after the question mark is malformed.")
	}
	return domain.InvalidFields(q.wrong)
}

// read hands a parameter to parse, which tells whether it can be used. One that is empty is as good as absent, and one that
// comes several times is refused: nobody could know which of its values counts.
func (q *listQuery) read(name string, parse func(value string) bool, format string, args ...any) {
	if times := len(q.values[name]); times > 1 {
		q.refuse(name, "%s must be given once, but is given %d times.", name, times)
		return
	}
	q.readValue(name, q.values.Get(name), parse, format, args...)
}

func (q *listQuery) readValue(name, value string, parse func(value string) bool, format string, args ...any) {
	if value == "" || parse(value) {
		return
	}
	q.refuse(name, "%s must be %s, but is %s.", name, fmt.Sprintf(format, args...), strconv.Quote(shorten(value)))
}

func (q *listQuery) refuse(name, format string, args ...any) {
	q.wrong = append(q.wrong, domain.FieldError{Field: name, Message: fmt.Sprintf(format, args...)})
}

// choice writes the values that there are to choose from for people.
func choice[T ~string](values []T) string {
	var text strings.Builder
	for i, value := range values {
		switch {
		case i > 0 && i == len(values)-1:
			text.WriteString(" or ")
		case i > 0:
			text.WriteString(", ")
		}
		text.WriteString(string(value))
	}
	return text.String()
}

// readPart reads which page is wanted.
func (q *listQuery) readPart(size pageSize) projections.PageRequest {
	part := projections.PageRequest{Limit: size.usual}
	q.read("limit", func(value string) bool {
		n, err := strconv.Atoi(value)
		part.Limit = n
		return err == nil && n >= 1 && n <= size.most
	}, "between 1 and %d", size.most)
	q.read("cursor", func(value string) (ok bool) {
		part.Before, ok = parseCursor(value)
		return ok
	}, "one that a Link header gave")
	return part
}

// listPart reads which page of a list without filters is wanted.
func listPart(r *request, size pageSize) (projections.PageRequest, error) {
	q := newListQuery(r)
	part := q.readPart(size)
	return part, q.refusal()
}

// answerPage answers with a page's items, and tells in a header where the next page is.
func answerPage[T any](r *request, page projections.Page[T], err error) (int, any, error) {
	if err == nil && page.Next > 0 {
		query := r.URL.Query()
		query.Set("cursor", encodeCursor(page.Next))
		if moment := r.response.Get(asOfHeader); moment != "" {
			query.Set("as_of", moment) // all pages are of one moment, however its time was written
		}
		r.response.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
	}
	return http.StatusOK, page.Items, err
}

// encodeCursor wraps the position before which a page begins. Clients give it back and make nothing of it.
func encodeCursor(position projections.Position) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(position)))
}

func parseCursor(text string) (position projections.Position, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 8 {
		return 0, false
	}
	position = projections.Position(binary.BigEndian.Uint64(raw))
	return position, position > 0
}
