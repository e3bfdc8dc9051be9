package privatepg

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLogSize bounds, in bytes, what of Postgres' log is kept from one start to the next.
const maxLogSize = 4 << 20

// serverLog is Postgres' own log, open for one run of the server.
type serverLog struct {
	file *os.File
	from int64 // where this run's part begins
}

// openLog opens the log for appending, and empties it when it has grown too large.
func openLog(c cluster) (*serverLog, error) {
	file, err := os.OpenFile(c.logFile(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open Postgres' log: %w", err)
	}
	log := &serverLog{file: file}
	if log.from, err = file.Seek(0, io.SeekEnd); err == nil && log.from > maxLogSize {
		log.from, err = 0, file.Truncate(0)
	}
	if err == nil {
		err = file.Chown(c.account.uid, c.account.gid)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open Postgres' log: %w", err)
	}
	return log, nil
}

// written is what this run has written so far, the newest 64 KiB of it at most.
func (l *serverLog) written() string {
	const most = 64 << 10
	info, err := l.file.Stat()
	if err != nil {
		return ""
	}
	from := max(l.from, info.Size()-most)
	content, _ := io.ReadAll(io.NewSectionReader(l.file, from, most))
	return string(content)
}

func (l *serverLog) Close() error { return l.file.Close() }

// lastLines returns the last n lines of text in one line.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
