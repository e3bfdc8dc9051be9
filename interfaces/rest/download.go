package rest

import (
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// download is a body that is a file of lines, written while it is made.
type download struct {
	api     *API
	request *http.Request
	account uuid.UUID
	name    string
	make    func(io.Writer) error
}

// partWithin is what a client may take to read what was written at once. One that is slower is cut off.
const partWithin = time.Minute

func (d download) write(w http.ResponseWriter) {
	end, err := d.api.exports.begin(d.account)
	if err != nil {
		d.api.refuse(w, d.request, err)
		return
	}
	defer end()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	if d.request.Method == http.MethodHead {
		return
	}
	out := &patientWriter{ResponseWriter: w, connection: http.NewResponseController(w)}
	err = d.make(out)
	switch {
	case err == nil || d.request.Context().Err() != nil: // or the client is gone
	case !out.written:
		w.Header().Del("Content-Disposition")
		d.api.refuse(w, d.request, err)
	default: // only a connection that breaks tells the client that this is not all
		d.api.logFailure(d.request, "a download ended early", err)
		panic(http.ErrAbortHandler)
	}
}

// patientWriter gives every part of an answer its own time.
type patientWriter struct {
	http.ResponseWriter
	connection *http.ResponseController
	written    bool
}

func (w *patientWriter) Write(p []byte) (int, error) {
	w.written = true
	_ = w.connection.SetWriteDeadline(time.Now().Add(partWithin)) // where it cannot be moved there is none
	return w.ResponseWriter.Write(p)
}
