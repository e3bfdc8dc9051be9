// Package proof keeps the proof of history: what lets somebody who does not trust VoltRun, its operator or its database
// check that the log is the one that was written.
//
// Every event is a leaf of a Merkle tree (RFC 6962), in the order of the log: record n of the tree is the event at
// position n+1. A leaf holds everything about an event but its payload, and of that the commitment, so that events whose
// payload was erased or archived are proved like any other.
//
// A Keeper follows the log in the background, extends the tree and signs its heads (C2SP checkpoints, Ed25519). Each head
// also goes to a Witness, a file out of reach of whoever owns the database only. Verify checks a whole log, VerifyBundle
// an excerpt of one, without access to anything.
package proof

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Broken says that history is not what was signed.
type Broken struct{ What string }

// Error tells a person what is wrong, with positions.
func (e *Broken) Error() string { return e.What }

// IsBroken tells whether err is, or wraps, a *Broken.
func IsBroken(err error) bool {
	var broken *Broken
	return errors.As(err, &broken)
}

// OtherKey says that the log is signed by a key that is not known here, and what to do about it. Most often two servers were
// started on one database, each with a key of its own.
type OtherKey struct{ What string }

const otherKeyAdvice = "Servers on one database need one key: stop this one, copy the file proof_key from the data folder of the one " +
	"that signs into its own (or give both the same VOLTRUN_PROOF_KEY), and start it again. When you have replaced the key, " +
	"put the public key of the old one behind the new one. When it was neither, somebody else has written into the database."

// Error tells a person what is wrong and what to do.
func (e *OtherKey) Error() string { return e.What }

// querier is a pgx pool, connection or transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
