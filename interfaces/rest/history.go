package rest

import (
	"encoding/json"
	"iter"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/projections"
)

// linesType is the content type of one JSON value a line.
const linesType = "application/x-ndjson"

// wantsLines tells whether a client asks for lines rather than for pages.
func wantsLines(r *http.Request) bool {
	for accepted := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if mediaType, _, err := mime.ParseMediaType(accepted); err == nil && mediaType == linesType {
			return true
		}
	}
	return false
}

// lines is a body of events, one a line, as long as the history is. It is written page by page.
type lines struct {
	api     *API
	request *http.Request
	account uuid.UUID
	pages   iter.Seq2[[]projections.Entry, error]
}

// pageWithin is what a client may take to read a page. One that is slower is cut off.
const pageWithin = 2 * time.Minute

func (l lines) write(w http.ResponseWriter) {
	end, err := l.api.exports.begin(l.account)
	if err != nil {
		l.api.refuse(w, l.request, err)
		return
	}
	defer end()
	w.Header().Set("Content-Type", linesType)
	if l.request.Method == http.MethodHead {
		return
	}
	connection := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	written := false
	for page, err := range l.pages {
		if err != nil {
			l.fail(w, written, err)
			return
		}
		_ = connection.SetWriteDeadline(time.Now().Add(pageWithin)) // where it cannot be moved there is none
		for _, entry := range page {
			if encoder.Encode(entry) != nil {
				return // the client is gone
			}
		}
		if connection.Flush() != nil {
			return
		}
		written = true
	}
}

// fail tells the client that this is not all. Once a part is on its way only a broken connection can.
func (l lines) fail(w http.ResponseWriter, written bool, err error) {
	switch {
	case l.request.Context().Err() != nil: // the client is gone
	case !written:
		l.api.refuse(w, l.request, err)
	default:
		l.api.logFailure(l.request, "an export of events ended early", err)
		panic(http.ErrAbortHandler)
	}
}
