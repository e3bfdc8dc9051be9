package commands

import (
	"context"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/voltrun/voltrun/domain"
)

// cachedFunctions bounds the cache. With the largest code that there can be, it takes 64 MB.
const cachedFunctions = 64

// functionCache spares executions and changes the history of their function, which holds the code of every version. What
// it knows of a stream stays true, because streams only grow: a request for the newest version asks the log for what came
// after. It is what makes snapshots needless.
type functionCache struct {
	histories *lru.Cache[functionVersion, history[domain.Function]]
}

// functionVersion names a function as it was at a version, or with version 0 the newest that was seen.
type functionVersion struct {
	id      uuid.UUID
	version int
}

func newFunctionCache() *functionCache {
	histories, err := lru.New[functionVersion, history[domain.Function]](cachedFunctions)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &functionCache{histories}
}

// history returns a function as it is now, with its version. It is a loader.
func (c *functionCache) history(ctx context.Context, j *journal, id uuid.UUID) (history[domain.Function], error) {
	return c.load(ctx, j, functionVersion{id: id}, 0)
}

// newest returns a function as it is now.
func (c *functionCache) newest(ctx context.Context, j *journal, id uuid.UUID) (domain.Function, error) {
	h, err := c.history(ctx, j, id)
	return h.state, err
}

// known returns a function as it was when it was last looked at, with its version. What is decided from it has to be
// appended at that version.
func (c *functionCache) known(ctx context.Context, j *journal, id uuid.UUID) (history[domain.Function], error) {
	if h, ok := c.histories.Get(functionVersion{id: id}); ok {
		return h, nil
	}
	return c.history(ctx, j, id)
}

// at returns a function as it was at a version.
func (c *functionCache) at(ctx context.Context, j *journal, id uuid.UUID, version int) (domain.Function, error) {
	h, err := c.load(ctx, j, functionVersion{id, version}, version)
	return h.state, err
}

func (c *functionCache) load(ctx context.Context, j *journal, key functionVersion, until int) (history[domain.Function], error) {
	known, ok := c.histories.Get(key)
	if newest, seen := c.histories.Get(functionVersion{id: key.id}); !ok && seen && newest.version <= until {
		known = newest
	}
	h, err := extend(ctx, j, key.id, known, until)
	if err == nil && h.version > 0 {
		c.histories.Add(key, h)
	}
	return h, err
}
