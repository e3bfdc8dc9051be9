package sandbox

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"syscall"

	"github.com/voltrun/voltrun/runners/sandbox/limits"
	"github.com/voltrun/voltrun/runners/sandbox/network"
)

// egress lends programs a network from which the internet is reached, where this host allows that.
type egress struct {
	users   *users
	as      *syscall.Credential // who speaks for the programs; none of them is that user
	network *network.Egress
	why     error // egress cannot be given
}

// openEgress looks whether egress can be given. The addresses that are refused come on top of the host's own, of private
// and of metadata addresses.
func openEgress(ctx context.Context, users *users, refused []netip.Prefix) *egress {
	as, err := users.take(ctx)
	if err != nil {
		return &egress{why: err}
	}
	e := &egress{users: users, as: as}
	if e.network, e.why = network.Open(ctx, as, refused); e.why != nil {
		e.close()
	}
	return e
}

func (e *egress) close() {
	if e.users != nil {
		e.users.giveBack(e.as)
		e.users = nil
	}
}

// open makes a namespace for one program.
func (e *egress) open(ctx context.Context) (*network.Namespace, error) {
	if e.why != nil {
		return nil, e.why
	}
	namespace, err := e.network.Start(ctx, spawn)
	if err != nil {
		return nil, fmt.Errorf("give a function the internet: %w", err)
	}
	return namespace, nil
}

// networkProcesses are those that slirp4netns has.
const networkProcesses = 2

// lend lets a command run in a network from which the internet is reached, which ends with it.
func (e *egress) lend(ctx context.Context, c *command) error {
	lent, err := e.open(ctx)
	if err != nil {
		return err
	}
	c.argv = append(lent.Enter(), c.argv...)
	c.launchers += networkProcesses
	c.cleanup = lent.Close
	watch := c.watch
	c.watch = func(cmd *exec.Cmd) (tree, error) {
		if err := bindTo(c.group, lent); err != nil {
			return nil, err
		}
		return watch(cmd)
	}
	return nil
}

// bindTo lets who speaks for a program count as part of it.
func bindTo(group *limits.Group, namespace *network.Namespace) error {
	if namespace == nil {
		return nil
	}
	return group.Add(namespace.Pid())
}

// enforcement says how far egress is kept from what it may not reach.
func (e *egress) enforcement(to Enforcement) Enforcement {
	to.Network["egress"] = Hard
	if e.why != nil {
		to.Network["egress"] = Not
		to.Notes = append(to.Notes, "No function can be given the internet: "+e.why.Error())
	}
	return to
}
