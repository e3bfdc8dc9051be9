package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Auto is the wish for the strongest driver that works here.
const Auto = "auto"

// probeTimeout bounds the probe of one driver. A working one needs some milliseconds.
const probeTimeout = 20 * time.Second

// Options are what drivers need to be told.
type Options struct {
	OCIRuntime string         // which the driver "oci" uses: crun, runc, runsc or krun, or the path of one; "" is crun
	Refused    []netip.Prefix // what egress must not reach, beside this host, its networks, private and metadata addresses
}

// Choose returns a driver that keeps a program in its sandbox on this host: it starts one that tries to get out. The wish
// is a driver's name, or Auto for the first that works, the strongest before the weaker ones; Enforcement says why not a
// stronger one. Plain processes are no sandbox: they are had by their name only, and without a probe.
func Choose(ctx context.Context, wish string, o Options) (Driver, error) {
	if wish == Auto {
		return firstThatHolds(ctx, o)
	}
	for _, candidate := range candidates() {
		if candidate.name != wish {
			continue
		}
		d, err := candidate.open(ctx, o)
		if err == nil && candidate.name != processName {
			err = probeOrClose(ctx, d)
		}
		if err != nil {
			return nil, fmt.Errorf("functions cannot be isolated by %q here: %w", wish, err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("there is no isolation %q: choose one of %s", wish, strings.Join(Names(), ", "))
}

// Names lists what Choose takes on this system.
func Names() []string {
	names := []string{Auto}
	for _, candidate := range candidates() {
		names = append(names, candidate.name)
	}
	return names
}

type candidate struct {
	name     string
	open     func(context.Context, Options) (Driver, error)
	byChance bool // auto may take it
}

func firstThatHolds(ctx context.Context, o Options) (Driver, error) {
	var refused []string
	for _, candidate := range candidates() {
		if !candidate.byChance {
			continue
		}
		d, err := candidate.open(ctx, o)
		if err == nil {
			err = probeOrClose(ctx, d)
		}
		if err == nil {
			return &chosen{Driver: d, refused: refused}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		refused = append(refused, fmt.Sprintf("%s was not taken: %s.", candidate.name, err))
	}
	return nil, errors.New("nothing on this host keeps functions from it. " + strings.Join(refused, " ") +
		" Install bubblewrap on a Linux host; for functions that are all your own, plain processes will do (isolation \"process\")")
}

func probeOrClose(ctx context.Context, d Driver) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := probe(ctx, d); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

// chosen is a driver with the reasons why it is not a stronger one.
type chosen struct {
	Driver
	refused []string
}

func (c *chosen) Enforcement() Enforcement {
	e := c.Driver.Enforcement()
	e.Notes = slices.Concat(c.refused, e.Notes)
	return e
}
