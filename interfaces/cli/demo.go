package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// demoWithin bounds the whole demo. Each of its functions is done in well under a second.
	demoWithin = 2 * time.Minute

	// followEvery is how often a running execution's log is read.
	followEvery = 50 * time.Millisecond
)

// demo is one run of the demo.
type demo struct {
	client *Client
	out    io.Writer
}

// Demo shows VoltRun at work on the server at baseURL: it opens an account, creates the examples, runs each, follows its
// log and prints the result. The error says what was not as it should be.
func Demo(ctx context.Context, baseURL string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, demoWithin)
	defer cancel()
	d := demo{client: NewClient(baseURL), out: out}
	d.print("VoltRun at %s\n\n", d.client.base)
	if err := d.checkRuntimes(ctx); err != nil {
		return err
	}
	if err := d.register(ctx); err != nil {
		return err
	}
	for _, example := range Examples() {
		if err := d.run(ctx, example); err != nil {
			return fmt.Errorf("%s: %w", example.Name, err)
		}
	}
	d.print("\nBoth functions ran, and every step of it is an event in the log.\n")
	return nil
}

func (d demo) print(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

// step prints one thing that was done and how long it took.
func (d demo) step(what, detail string, took time.Duration) {
	d.print("  %-9s %s  (%s)\n", what, detail, took.Round(100*time.Microsecond))
}

// checkRuntimes fails before anything is created when the server lacks what the examples need.
func (d demo) checkRuntimes(ctx context.Context) error {
	health, err := d.client.Health(ctx)
	if err != nil {
		return err
	}
	for _, example := range Examples() {
		if !slices.Contains(health.Runtimes, example.Runtime) {
			return fmt.Errorf("the server's host has no %s, which the demo needs; it has: %s", example.Runtime, strings.Join(health.Runtimes, ", "))
		}
	}
	return nil
}

func (d *demo) register(ctx context.Context) error {
	start := time.Now()
	email := "demo-" + strings.ToLower(rand.Text()[:10]) + "@example.com"
	account, err := d.client.Register(ctx, email, rand.Text(), "Demo")
	if err != nil {
		return fmt.Errorf("open an account: %w", err)
	}
	d.client = d.client.WithToken(account.Token)
	d.print("Account\n")
	d.step("opened", account.User.Email, time.Since(start))
	return nil
}

func (d demo) run(ctx context.Context, example Example) error {
	d.print("\n%s (%s, %s)\n", example.Name, example.Runtime, example.File)
	start := time.Now()
	function, err := d.client.CreateFunction(ctx, example.Name, example.Runtime, example.Code)
	if err != nil {
		return fmt.Errorf("create the function: %w", err)
	}
	d.step("created", "function "+function.ID, time.Since(start))

	start = time.Now()
	id, err := d.client.Execute(ctx, function.ID, map[string]string{"name": "Ada"})
	if err != nil {
		return fmt.Errorf("execute the function: %w", err)
	}
	d.step("accepted", "execution "+id, time.Since(start))

	if err := d.follow(ctx, id); err != nil {
		return fmt.Errorf("follow the log: %w", err)
	}
	return d.report(ctx, id, start)
}

// follow prints the lines of an execution as they come, until it has ended.
func (d demo) follow(ctx context.Context, id string) error {
	printed := 0
	for {
		logs, err := d.client.Logs(ctx, id)
		if err != nil {
			return err
		}
		for line := range strings.Lines(logs.Logs[min(printed, len(logs.Logs)):]) {
			d.print("  %-9s %s\n", "log", strings.TrimSuffix(line, "\n"))
		}
		printed = len(logs.Logs)
		if logs.Status == success || logs.Status == failed {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("execution %s is still %s: %w", id, logs.Status, ctx.Err())
		case <-time.After(followEvery):
		}
	}
}

// report prints how an execution ended and checks that it greets Ada.
func (d demo) report(ctx context.Context, id string, start time.Time) error {
	execution, err := d.client.Execution(ctx, id)
	if err != nil {
		return fmt.Errorf("read the result: %w", err)
	}
	if execution.Status != success {
		return fmt.Errorf("execution %s is %s: %s %s", id, execution.Status, execution.ErrorType, execution.Error)
	}
	d.step(execution.Status, fmt.Sprintf("ran %d ms in %d MB", execution.DurationMS, execution.MemoryMB), time.Since(start))
	d.print("  %-9s %s\n", "result", execution.Output)

	const want = "Hello, Ada!"
	if got := greeting(execution.Output); got != want {
		return fmt.Errorf("execution %s answered %q, and not %q", id, got, want)
	}
	if !strings.Contains(execution.Logs, "Event: ") {
		return fmt.Errorf("the log of execution %s does not show the event that it printed: %q", id, execution.Logs)
	}
	return nil
}

// greeting takes the message out of an example's answer, empty when there is none.
func greeting(output json.RawMessage) string {
	var answer struct {
		StatusCode int    `json:"statusCode"`
		Body       string `json:"body"`
	}
	var body struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(output, &answer) != nil || json.Unmarshal([]byte(answer.Body), &body) != nil || answer.StatusCode != 200 {
		return ""
	}
	return body.Message
}
