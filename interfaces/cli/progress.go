package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/voltrun/voltrun/projections"
)

// lineEvery is how often ProgressLines prints a line.
const lineEvery = 2 * time.Second

// ProgressLines returns a report that prints a line now and then, for logs. done is what has happened to the events in
// the end.
func ProgressLines(out io.Writer, done string) func(projections.Progress) {
	printed := time.Now()
	return func(p projections.Progress) {
		switch {
		case p.Ended():
			fmt.Fprintln(out, ending(p, done))
		case time.Since(printed) > lineEvery:
			printed = time.Now()
			fmt.Fprintf(out, "%s: %s, %d of %d events%s\n", p.Projection, p.State, p.Done, p.Total, speed(p))
		}
	}
}

// ProgressBar returns a report that draws a bar on a terminal, and in the end replaces it by a line.
func ProgressBar(terminal io.Writer, done string) func(projections.Progress) {
	bar := progressbar.NewOptions64(1, progressbar.OptionSetWriter(terminal), progressbar.OptionSetWidth(30), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionUseANSICodes(true))
	return func(p projections.Progress) {
		if p.Ended() {
			_ = bar.Clear()
			fmt.Fprintln(terminal, ending(p, done))
			return
		}
		bar.Describe(fmt.Sprintf("%s: %s%s", p.Projection, p.State, speed(p)))
		if p.Total > 0 {
			bar.ChangeMax64(int64(p.Total))
			_ = bar.Set64(min(int64(p.Done), int64(p.Total)-1)) // a full bar would end itself
		}
	}
}

// speed tells how fast the log is read and how long that still takes.
func speed(p projections.Progress) string {
	if p.State != projections.RebuildReading || p.Rate == 0 {
		return ""
	}
	left := time.Duration(p.Left * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf(", %.0f events/s, %s left", p.Rate, left)
}

// ending says how it ended.
func ending(p projections.Progress, done string) string {
	took := p.EndedAt.Sub(p.StartedAt)
	switch p.State {
	case projections.RebuildDone:
		return fmt.Sprintf("%s: %d events %s in %s, %.0f events/s", p.Projection, p.Done, done, took.Round(time.Millisecond), float64(p.Done)/took.Seconds())
	case projections.RebuildCancelled:
		return fmt.Sprintf("%s: cancelled at event %d of %d", p.Projection, p.Done, p.Total)
	}
	return fmt.Sprintf("%s: failed at event %d of %d", p.Projection, p.Done, p.Total)
}

func percent(p projections.Progress) int64 {
	return 100 * int64(p.Done) / max(1, int64(p.Total))
}
