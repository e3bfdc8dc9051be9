package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/voltrun/voltrun/projections"
)

// statusWithin bounds the question how a server is.
const statusWithin = 10 * time.Second

// ProjectionsStatus prints where the projections of the server at baseURL stand. A token of its operator, which may be
// empty, shows why one is paused, and what is being rebuilt. The error says that the server cannot be asked, or what it
// says is wrong with it.
func ProjectionsStatus(ctx context.Context, baseURL, operatorToken string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	client := NewClient(baseURL)
	health, err := client.Health(ctx)
	if err != nil {
		return err
	}
	list := health.Projections
	if operatorToken != "" {
		if known, err := client.WithToken(operatorToken).Projections(ctx); err == nil {
			list = known // else the token is another server's
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECTION\tSTATE\tPOSITION\tLAG\tERROR")
	for _, p := range list {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", p.Name, p.describe(), p.Position, p.Lag, p.Error)
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

// Projection is where a projection stands.
type Projection struct {
	Name     string                `json:"name"`
	State    string                `json:"state"`
	Position int64                 `json:"position"`
	Lag      int64                 `json:"lag"`
	Error    string                `json:"error"`
	Rebuild  *projections.Progress `json:"rebuild"`
}

// describe is the projection's state with its rebuild, while there is one.
func (p Projection) describe() string {
	if p.Rebuild == nil || p.Rebuild.Ended() {
		return p.State
	}
	return fmt.Sprintf("%s, rebuild %d%%", p.State, percent(*p.Rebuild))
}

// Projections asks as the operator where the projections stand.
func (c *Client) Projections(ctx context.Context) (list []Projection, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/admin/projections", nil, &list)
}

// resumeWithin is how long a projection that goes on is watched: whether it gets further shows at once.
const (
	resumeWithin = 3 * time.Second
	lookEvery    = 50 * time.Millisecond
)

// ResumeProjection lets a paused projection of the server at baseURL try again, and tells whether it gets further. The
// token is one of the server's operator.
func ResumeProjection(ctx context.Context, baseURL, operatorToken, name string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	if operatorToken == "" {
		return errors.New("only the operator may do this: run it where the server's data folder is, or with its JWT_SECRET")
	}
	client := NewClient(baseURL).WithToken(operatorToken)
	var before Projection
	if err := client.call(ctx, http.MethodPost, "/api/admin/projections/"+url.PathEscape(name)+"/resume", nil, &before); err != nil {
		return explainOperator(baseURL, err)
	}
	now, err := client.watch(ctx, before)
	if err != nil {
		return err
	}
	if now.State == projections.Paused {
		return fmt.Errorf("%s is paused again at position %d: %s", name, now.Position, now.Error)
	}
	fmt.Fprintf(out, "%s goes on: it was at position %d, is at %d now, and has %d events to go\n", name, before.Position, now.Position, now.Lag)
	return nil
}

// explainOperator tells what to do when a server does not take the operator's token.
func explainOperator(baseURL string, err error) error {
	var refused *APIError
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		return fmt.Errorf("the server at %s has another secret than this environment; run the command with the server's own "+
			"VOLTRUN_DATA or JWT_SECRET", baseURL)
	}
	return err
}

// watch looks at a projection until it has caught up or is paused, or for a while.
func (c *Client) watch(ctx context.Context, p Projection) (Projection, error) {
	for deadline := time.Now().Add(resumeWithin); p.State == projections.Following && p.Lag > 0 && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(lookEvery):
		}
		list, err := c.Projections(ctx)
		if err != nil {
			return p, err
		}
		if i := slices.IndexFunc(list, func(other Projection) bool { return other.Name == p.Name }); i >= 0 {
			p = list[i]
		}
	}
	return p, nil
}

// ShowVerifications prints how each table compares. The error says that one differs.
func ShowVerifications(out io.Writer, results []projections.Verification) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROJECTION\tPOSITION\tTABLE\tROWS\tDIGEST\t")
	different, all := 0, 0
	for _, v := range results {
		for _, t := range v.Tables {
			all++
			fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%s\t%s\n", v.Projection, v.Position, t.Table, t.Live.Rows, t.Live.Hash, verdict(t))
			if !t.Equal() {
				different++
				fmt.Fprintf(table, "\t\tfrom the log\t%d\t%s\t\n", t.FromLog.Rows, t.FromLog.Hash)
			}
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if different > 0 {
		return fmt.Errorf("%d of %d tables are not what the log says; \"voltrun projections rebuild\" makes them so", different, all)
	}
	return nil
}

func verdict(t projections.TableVerification) string {
	if t.Equal() {
		return "as the log says"
	}
	return "DIFFERENT"
}
