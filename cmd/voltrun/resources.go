package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// closeTimeout is how long the resources may take to close: the executor waits 5 s for functions and kills them then,
// Postgres takes 10 s for its last checkpoint or is stopped the hard way.
const closeTimeout = 25 * time.Second

// resources are what the constructors of the object graph have opened, such as connections and processes. They are
// closed from the last to the first when the services that use them have stopped, and also when the graph could not be
// completed: fx stops only what it has started.
type resources struct{ opened []resource }

type resource struct {
	name  string
	close func(context.Context) error
}

func (r *resources) add(name string, closeIt func(context.Context) error) {
	r.opened = append(r.opened, resource{name, closeIt})
}

func (r *resources) closeAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	for i := len(r.opened) - 1; i >= 0; i-- {
		if err := r.opened[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", r.opened[i].name, err))
		}
	}
	r.opened = nil
	return errors.Join(errs...)
}

// noError is a close that cannot fail or be hurried.
func noError(closeIt func()) func(context.Context) error {
	return func(context.Context) error {
		closeIt()
		return nil
	}
}
