package rest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// longHistory is somebody whose account has about so many events, with lines of so many bytes.
func longHistory(t *testing.T, events, line int, change ...func(*rest.Config)) (client, *resttest.Server) {
	s := resttest.Start(t, change...)
	c, who := register(t, s)
	function := c.createFunction("hello")
	projectionstest.Fill(t, s.Store.Pool(), projectionstest.Filling{
		Account: uuid.MustParse(who["user"].(object)["id"].(string)), Share: 1, Function: uuid.MustParse(function), Events: events, Line: line,
	})
	return c, s
}

// export opens a stream of lines, which is closed with the test.
func (c client) export(path string) (status int, content io.ReadCloser) {
	c.t.Helper()
	r, err := http.NewRequest("GET", c.url+path, nil)
	require.NoError(c.t, err)
	r.Header = c.with("Accept", "text/html;q=0.1, application/x-ndjson; charset=utf-8").header
	response, err := http.DefaultClient.Do(r)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = response.Body.Close() })
	return response.StatusCode, response.Body
}

// It runs alone: others would use memory meanwhile.
func TestAnExportOfEverythingHoldsLittle(t *testing.T) {
	c, s := longHistory(t, 20_000, 5_000)
	head := s.Head(t)
	status, content := c.export("/api/audit?order=asc")
	require.Equal(t, 200, status)
	lines := bufio.NewScanner(content)
	lines.Buffer(nil, 1<<20)
	require.True(t, lines.Scan())

	// The client takes its time now. Whatever the server is doing, it has no view of the database open.
	require.Eventually(t, func() bool {
		var open int
		err := s.Store.Pool().QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null`).Scan(&open)
		return err == nil && open == 0
	}, 10*time.Second, 10*time.Millisecond)
	c.createFunction("later")

	positions, peak := 1.0, uint64(0)
	for lines.Scan() {
		positions++
		if int(positions)%1000 == 0 {
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			peak = max(peak, memory.HeapAlloc)
			var entry struct{ Position float64 }
			require.NoError(t, json.Unmarshal(lines.Bytes(), &entry))
			require.Equal(t, positions, entry.Position)
		}
	}
	require.NoError(t, lines.Err())
	require.EqualValues(t, head, positions, "everything, and nothing that came later")
	require.Less(t, peak, uint64(80<<20), "the export has some 75 MB, and was held")
}

// accessLog is what the server writes down.
type accessLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *accessLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *accessLog) find(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

func TestAnExportEndsWhenItsReaderIsGone(t *testing.T) {
	t.Parallel()
	access := &accessLog{}
	c, _ := longHistory(t, 10_000, 5_000, func(config *rest.Config) {
		config.Logger = slog.New(slog.NewJSONHandler(access, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	_, content := c.export("/api/audit")
	_, err := io.ReadFull(content, make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, content.Close())
	require.Eventually(t, func() bool { return access.find("/api/audit") != "" }, 20*time.Second, 10*time.Millisecond)
	var entry struct{ Bytes int }
	require.NoError(t, json.Unmarshal([]byte(access.find("/api/audit")), &entry))
	require.Less(t, entry.Bytes, 30<<20)
	require.Empty(t, access.find(`"level":"ERROR"`))
}

func TestAnExportThatFailsIsNeverTakenForComplete(t *testing.T) {
	t.Parallel()
	c, s := longHistory(t, 3000, 10)
	_, err := s.Store.Pool().Exec(t.Context(), `
		with moved as (update head set position = position + 1 returning position)
		insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, recorded_at, commitment, data)
		select moved.position, gen_random_uuid(), 1, gen_random_uuid(), 'function.deleted', 1, account_id, 'system', recorded_at, '', '\x07'
		from events, moved where events.position = moved.position - 1`)
	require.NoError(t, err)
	status, content := c.export("/api/audit?order=asc")
	require.Equal(t, 200, status)
	part, err := io.ReadAll(content)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotEmpty(t, part)

	// Before anything was sent there is an answer to give.
	status, _ = c.export("/api/audit")
	require.Equal(t, 500, status)
}

func TestWhoAsksForTheHeadOfAnExportGetsNoBody(t *testing.T) {
	t.Parallel()
	c, _ := longHistory(t, 10, 10)
	got := c.with("Accept", "application/x-ndjson").call("HEAD", "/api/audit", "")
	require.Equal(t, 200, got.StatusCode)
	require.Equal(t, "application/x-ndjson", got.Header.Get("Content-Type"))
	require.Empty(t, got.body)
}
