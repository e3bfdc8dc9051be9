// Package frontend holds the pages that the server serves itself.
package frontend

import "embed"

// Files are the pages and what they refer to.
//
//go:embed index.html style.css icon.svg
var Files embed.FS
