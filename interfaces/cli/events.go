package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Event is a fact of the log.
type Event struct {
	Position      int64           `json:"position"`
	Type          string          `json:"type"`
	StreamID      string          `json:"stream_id"`
	RecordedAt    time.Time       `json:"recorded_at"`
	Actor         Actor           `json:"actor"`
	CorrelationID string          `json:"correlation_id"`
	Data          json.RawMessage `json:"data"`
	Erased        bool            `json:"erased"`
	Archived      bool            `json:"archived"`
}

// Actor is who caused an event.
type Actor struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Prefix string `json:"prefix"`
}

func (a Actor) String() string {
	switch a.Kind {
	case "system":
		return "VoltRun"
	case "api_key":
		return "API key " + a.Prefix + " (" + a.ID + ")"
	}
	return a.Kind + " " + a.ID
}

// short tells actors of one execution apart, by what differs in ids that were made at the same time.
func (a Actor) short() string {
	switch a.Kind {
	case "system":
		return "VoltRun"
	case "api_key":
		return a.Prefix
	}
	return a.Kind + " " + a.ID[max(0, len(a.ID)-8):]
}

// Events returns everything that happened to an execution, oldest first.
func (c *Client) Events(ctx context.Context, executionID string) ([]Event, error) {
	request, err := c.request(ctx, http.MethodGet, "/api/executions/"+url.PathEscape(executionID)+"/events", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/x-ndjson")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		content, _ := io.ReadAll(response.Body) // without it the status says enough
		return nil, refusal(response.StatusCode, content)
	}
	return readEvents(response.Body)
}

// readEvents reads one event a line. An execution has one at least.
func readEvents(body io.Reader) (events []Event, err error) {
	decoder := json.NewDecoder(body)
	for {
		var event Event
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) && len(events) > 0 {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the server's account of the execution is not complete; try again: %w", err)
		}
		events = append(events, event)
	}
}
