package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Replay prints everything that happened to an execution, in its original timing. Speed says how many times faster; 0 and
// infinity are at once. key is an API key or an access token of its owner.
func Replay(ctx context.Context, baseURL, key, executionID string, speed float64, out io.Writer) error {
	if key == "" {
		return errors.New("whose execution is it? Set VOLTRUN_API_KEY to an API key or an access token of its owner")
	}
	if math.IsNaN(speed) || speed < 0 {
		return fmt.Errorf("--speed must be 1 for the original timing, 10 for ten times as fast, or 0 for at once, but is %v", speed)
	}
	events, err := NewClient(baseURL).WithToken(key).Events(ctx, executionID)
	if err != nil {
		return err
	}
	s := newStory(events, styleFor(out))
	if _, err := fmt.Fprintln(out, s.title()); err != nil {
		return err
	}
	began := time.Now()
	for i, event := range events {
		if err := s.await(ctx, i, speed, began); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, s.line(i, event)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(out, s.end())
	return err
}

// await returns when an event is due.
func (s story) await(ctx context.Context, i int, speed float64, began time.Time) error {
	if speed == 0 || math.IsInf(speed, 1) {
		return ctx.Err()
	}
	due := began.Add(time.Duration(float64(s.offsets[i]) / speed))
	pause := time.NewTimer(time.Until(due))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
