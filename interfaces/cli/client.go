// Package cli is VoltRun as seen from a terminal: a client of the HTTP API, and the commands that use it. It talks to a
// server as everybody does and knows nothing else of it.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client calls a VoltRun server.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient makes a client of the server at an address such as http://localhost:8080.
func NewClient(baseURL string) *Client {
	return &Client{base: strings.TrimRight(baseURL, "/"), http: &http.Client{Timeout: 30 * time.Second}}
}

// WithToken returns the same client for whoever has this access token or API key.
func (c *Client) WithToken(token string) *Client {
	return &Client{base: c.base, token: token, http: c.http}
}

// APIError is a server's refusal.
type APIError struct {
	Status  int
	Message string // for people
}

func (e *APIError) Error() string { return e.Message }

// Account is who signed up.
type Account struct {
	Token string `json:"token"`
	User  struct {
		ID    string `json:"id"`
		Email string `json:"email"`
		Name  string `json:"name"`
	} `json:"user"`
}

// Register opens an account.
func (c *Client) Register(ctx context.Context, email, password, name string) (Account, error) {
	var account Account
	body := map[string]string{"email": email, "password": password, "name": name}
	return account, c.call(ctx, http.MethodPost, "/api/auth/register", body, &account)
}

// Function is a function as far as the commands need it.
type Function struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Runtime string `json:"runtime"`
}

// CreateFunction makes a function with the default limits.
func (c *Client) CreateFunction(ctx context.Context, name, runtime, code string) (Function, error) {
	var function Function
	body := map[string]string{"name": name, "runtime": runtime, "code": code}
	return function, c.call(ctx, http.MethodPost, "/api/functions", body, &function)
}

// Execute asks for a run of a function and returns the execution's id. It does not wait for the end.
func (c *Client) Execute(ctx context.Context, functionID string, input any) (executionID string, err error) {
	var accepted struct {
		ExecutionID string `json:"execution_id"`
	}
	err = c.call(ctx, http.MethodPost, "/api/functions/"+functionID+"/execute", map[string]any{"input": input}, &accepted)
	return accepted.ExecutionID, err
}

// Execution is a run of a function.
type Execution struct {
	ID         string          `json:"id"`
	Status     string          `json:"status"`
	Output     json.RawMessage `json:"output"`
	Error      string          `json:"error"`
	ErrorType  string          `json:"error_type"`
	Logs       string          `json:"logs"`
	DurationMS int64           `json:"duration_ms"`
	MemoryMB   int             `json:"memory_used"`
}

// The final states of an execution.
const (
	success = "success"
	failed  = "failed"
)

// Execution returns an execution as it is now.
func (c *Client) Execution(ctx context.Context, id string) (Execution, error) {
	var execution Execution
	return execution, c.call(ctx, http.MethodGet, "/api/executions/"+id, nil, &execution)
}

// Logs is what an execution has printed so far.
type Logs struct {
	Logs   string `json:"logs"`
	Status string `json:"status"`
}

// Logs returns what an execution has printed so far.
func (c *Client) Logs(ctx context.Context, executionID string) (Logs, error) {
	var logs Logs
	return logs, c.call(ctx, http.MethodGet, "/api/executions/"+executionID+"/logs", nil, &logs)
}

// Health is how a server is.
type Health struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Log    struct {
		Head int64 `json:"head"`
	} `json:"log"`
	Projections []Projection `json:"projections"`
	Runtimes    []string     `json:"runtimes"`
}

// Health asks how a server is. A server that says it is not well has answered, and that is no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var health Health
	err := c.call(ctx, http.MethodGet, "/health", nil, &health)
	var refused *APIError
	if errors.As(err, &refused) && health.Status != "" {
		return health, nil
	}
	return health, err
}

// call sends a request and reads the answer into result, which may be filled in beside an *APIError.
func (c *Client) call(ctx context.Context, method, path string, body, result any) error {
	request, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	decodeErr := json.Unmarshal(content, result)
	if response.StatusCode >= http.StatusBadRequest {
		return refusal(response.StatusCode, content)
	}
	if decodeErr != nil {
		return fmt.Errorf("%s answered something that is not VoltRun's: %w", c.base, decodeErr)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encode the body of a request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(content))
	if err != nil || request.URL.Host == "" || !strings.HasPrefix(request.URL.Scheme, "http") {
		return nil, fmt.Errorf("%q is not the address of a server; give one such as http://localhost:8080", c.base)
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("no VoltRun server answers at %s; start one with `voltrun serve`, or say where it is", c.base)
	}
	return fmt.Errorf("the server at %s did not answer: %w", c.base, err)
}

func refusal(status int, content []byte) error {
	var body struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(content, &body); err != nil || body.Error == "" {
		body.Error = fmt.Sprintf("The server answered %d %s.", status, http.StatusText(status))
	}
	return &APIError{Status: status, Message: body.Error}
}
