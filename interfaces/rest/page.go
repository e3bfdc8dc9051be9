package rest

import (
	"bytes"
	"context"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"

	"github.com/voltrun/voltrun/frontend"
)

// pagePolicy lets our own pages use our own files, and nothing else.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is a body that is not JSON.
type file struct {
	contentType string
	content     []byte
}

// exampleOrigin is the address that the page's examples call. Readers get the address that they came by.
const exampleOrigin = "http://localhost:8080"

var plainHost = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]{1,255}$`)

func servePage(_ context.Context, r *request) (int, any, error) {
	page, err := frontend.Files.ReadFile("index.html")
	if plainHost.MatchString(r.Host) {
		page = bytes.ReplaceAll(page, []byte(exampleOrigin), []byte(originOf(r)))
	}
	return http.StatusOK, file{"text/html; charset=utf-8", page}, err
}

func originOf(r *request) string {
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// serveFile answers with one of the frontend's embedded files.
func serveFile(name string) handler {
	return func(context.Context, *request) (int, any, error) {
		content, err := frontend.Files.ReadFile(name)
		return http.StatusOK, file{mime.TypeByExtension(path.Ext(name)), content}, err
	}
}

func (f file) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(f.content)))
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(f.content) // the client may be gone
}
