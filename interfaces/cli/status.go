package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// statusWithin bounds the question how a server is.
const statusWithin = 10 * time.Second

// ProjectionsStatus prints where the projections of the server at baseURL stand. The error says that the server cannot
// be asked, or what it says is wrong with it.
func ProjectionsStatus(ctx context.Context, baseURL string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	health, err := NewClient(baseURL).Health(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECTION\tSTATE\tPOSITION\tLAG\tERROR")
	for _, p := range health.Projections {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", p.Name, p.State, p.Position, p.Lag, p.Error)
	}
	fmt.Fprintf(table, "(log)\t\t%d\t\t\n", health.Log.Head)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if health.Error != "" {
		return errors.New(health.Error)
	}
	return nil
}
