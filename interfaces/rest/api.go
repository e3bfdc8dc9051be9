// Package rest is VoltRun's HTTP API: the wire contract on one side, commands and read models on the other. It decides
// nothing itself; it says who is asking, checks the form of what is asked, and waits after a write until it can be read.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// DefaultDevOrigin is where the dashboard's development server lives.
const DefaultDevOrigin = "http://localhost:3000"

// MinSecretBytes is how long the secret that signs access tokens is at least.
const MinSecretBytes = 32

// Config is what the API stands on.
type Config struct {
	Commands    *commands.Handlers
	Idempotency *commands.Idempotency
	Queries     *projections.Queries
	History     *projections.History
	Live        *projections.Live
	Rebuilds    *projections.Rebuilds
	Accounts    Accounts
	Executor    Executor // nil: what is accepted waits for another process
	NoEgress    string   // why functions cannot be given the internet here; empty when they can
	Health      Health
	Proof       Proof

	Retention  domain.Retention // the operator's, of accounts that have none of their own
	JWTSecret  []byte           // signs access tokens; at least MinSecretBytes
	DevOrigins []string         // web origins other than our own that may call; nil means DefaultDevOrigin
	Logger     *slog.Logger
	Now        func() time.Time // nil means time.Now
}

// Accounts is what the API asks about accounts that their read model does not tell.
type Accounts struct {
	First    func(context.Context) (uuid.UUID, error)                     // registered first, so its holder is the operator; nil when there is none
	Erased   func(ctx context.Context, accountID uuid.UUID) (bool, error) // asked for every request of somebody who is signed in
	Erasures func(context.Context) (projections.ErasureStatus, error)
}

func (a Accounts) complete() bool { return a.First != nil && a.Erased != nil && a.Erasures != nil }

// API serves HTTP. Close must be called when it serves no more.
type API struct {
	handlers    *commands.Handlers // for all but the routes: a request has its own
	idempotency *commands.Idempotency
	queries     *projections.Queries
	history     *projections.History
	live        *projections.Live
	rebuilds    *projections.Rebuilds
	accounts    Accounts
	executor    Executor
	noEgress    string
	health      Health
	proof       Proof
	retention   domain.Retention
	operator    *operator
	tokens      *tokens
	keyUses     *keyUses
	now         func() time.Time
	logger      *slog.Logger
	exports     exports
	handler     http.Handler

	knownKeys *lru.Cache[[32]byte, knownKey] // by their hashes

	// deletedKeys are the ids of the keys that were deleted through this process and may still stand in the read model.
	deletedKeys sync.Map
}

// complete tells whether everything is there that has no default.
func (c Config) complete() bool {
	return c.Commands != nil && c.Idempotency != nil && c.Queries != nil && c.History != nil && c.Live != nil && c.Rebuilds != nil &&
		c.Accounts.complete() && c.Logger != nil && c.Health.complete() && c.Proof.complete()
}

// New makes the API.
func New(c Config) (*API, error) {
	if len(c.JWTSecret) < MinSecretBytes {
		return nil, fmt.Errorf("the secret for access tokens must have at least %d bytes, but has %d", MinSecretBytes, len(c.JWTSecret))
	}
	if !c.complete() {
		return nil, errors.New("a part of the API's configuration is missing; only Executor, DevOrigins and Now have defaults")
	}
	if c.DevOrigins == nil {
		c.DevOrigins = []string{DefaultDevOrigin}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &API{
		handlers: c.Commands, idempotency: c.Idempotency, queries: c.Queries, history: c.History, live: c.Live, rebuilds: c.Rebuilds,
		health: c.Health, proof: c.Proof, retention: c.Retention, now: c.Now, logger: c.Logger,
		executor: c.Executor, noEgress: c.NoEgress, accounts: c.Accounts, knownKeys: newKnownKeys(),
		operator: newOperator(c.JWTSecret, c.Now, c.Accounts.First),
		tokens:   newTokens(c.JWTSecret, c.Now), keyUses: startKeyUses(c.Commands.NoteKeyUse.Handle, c.Now, c.Logger),
		exports: exports{running: map[uuid.UUID]int{}},
	}
	a.handler = a.identify(a.observe(secure(allowOrigins(c.DevOrigins, a.router()))))
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Close writes down what is still to be noted of the use of API keys, and returns within seconds. It may be called
// twice.
func (a *API) Close() { a.keyUses.close() }

// seenWithin bounds how long an answer waits for the projection that shows its write.
const seenWithin = 2 * time.Second

// awaitSeen waits until a projection shows what a command wrote, and tells whether it does. A projection that is late
// does not undo the command, so the answer is given all the same.
func (a *API) awaitSeen(ctx context.Context, projection string, position projections.Position) bool {
	waiting, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	err := a.live.Wait(waiting, projection, position)
	if err != nil && ctx.Err() == nil {
		a.logger.WarnContext(ctx, "answered before the write could be read",
			"projection", projection, "position", position, "error", err, "request_id", requestID(ctx))
	}
	return err == nil
}
