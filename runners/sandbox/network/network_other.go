//go:build !linux

package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
)

// Egress makes no namespaces: only Linux has them.
type Egress struct{}

// Namespace is never made.
type Namespace struct{}

// Open says that egress cannot be given.
func Open(context.Context, *syscall.Credential, []netip.Prefix) (*Egress, error) {
	return nil, errors.New("only Linux has network namespaces")
}

// Start is never called.
func (e *Egress) Start(context.Context, func(*exec.Cmd) error) (*Namespace, error) {
	return nil, errors.ErrUnsupported
}

// Enter is never called.
func (n *Namespace) Enter() []string { return nil }

// Files is never called.
func (n *Namespace) Files() (network, user *os.File) { return nil, nil }

// Pid is never called.
func (n *Namespace) Pid() int { return 0 }

// Done is never called.
func (n *Namespace) Done() <-chan struct{} { return nil }

// Close does nothing.
func (n *Namespace) Close() error { return nil }
