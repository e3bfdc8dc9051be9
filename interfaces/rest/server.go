package rest

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer makes the HTTP server for a handler. The caller gives it a listener and shuts it down.
//
// A body of 6 MB may take two minutes, which is a line of half a megabit a second. What streams for longer than the
// write timeout has to move its own deadline, by http.ResponseController.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      4 * time.Minute, // counts from the end of the header, so it includes the body
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}
