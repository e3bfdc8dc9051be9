package proof

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// trusted returns the newest head with its tree, and the length of the log, once nothing speaks against them: the head's
// signature, the witness, the stored tree and the log itself.
func (k *Keeper) trusted(ctx context.Context, tx pgx.Tx) (newest Head, t *tree, length int64, err error) {
	if newest, err = k.newest(ctx, tx); err != nil {
		return
	}
	if err = k.checkWitness(ctx, tx, newest); err != nil {
		return
	}
	if t, err = loadTree(ctx, tx, newest.Size); err != nil {
		return
	}
	if newest.Size > 0 && t.root() != newest.Root {
		err = &Broken{fmt.Sprintf("the stored tree is not the one whose head of %d events was signed", newest.Size)}
		return
	}
	length, err = checkLength(ctx, tx, newest)
	return
}

// newest returns the newest head in the database, a zero one when there is none.
func (k *Keeper) newest(ctx context.Context, tx pgx.Tx) (Head, error) {
	stored, err := newestHead(ctx, tx)
	if err != nil || stored.Size == 0 {
		return Head{}, err
	}
	head, err := stored.open(k.key.PublicKeys)
	if errors.Is(err, errOtherKey) {
		return Head{}, &OtherKey{fmt.Sprintf("The newest head in the database, of %d events, %v. %s", stored.Size, err, otherKeyAdvice)}
	}
	if err != nil {
		return Head{}, &Broken{fmt.Sprintf("the newest head in the database, of %d events, %v", stored.Size, err)}
	}
	return head, nil
}

// checkLength makes sure that the log has at least the events that were signed.
func checkLength(ctx context.Context, tx pgx.Tx, newest Head) (length int64, err error) {
	if err := tx.QueryRow(ctx, "select position from head").Scan(&length); err != nil {
		return 0, fmt.Errorf("read the head of the log: %w", err)
	}
	if length < newest.Size {
		return 0, &Broken{fmt.Sprintf("the log ends at position %d, but %d events were signed: the events from position %d on were removed",
			length, newest.Size, length+1)}
	}
	return length, nil
}

// checkWitness makes sure that the newest head of the database continues what the witness saw, and shows it to the witness
// when it has not seen it.
func (k *Keeper) checkWitness(ctx context.Context, tx pgx.Tx, newest Head) error {
	line, found, _, err := k.witness.newest()
	if err != nil {
		return fmt.Errorf("read the heads that were signed before: %w", err)
	}
	if !found {
		return k.testify(newest)
	}
	seen, err := k.key.Open(line.Note)
	if err != nil {
		return &Broken{fmt.Sprintf("the newest head in %s %v", filepath.Base(k.witness.Path), err)}
	}
	if seen.Size > newest.Size {
		return &Broken{fmt.Sprintf("a head of %d events was signed, but the newest in the database has %d: what it says about the events from position %d on was removed",
			seen.Size, newest.Size, newest.Size+1)}
	}
	stored := newStoredTree(ctx, tx)
	if err := checkContinues(stored, seen, newest); err != nil {
		return k.narrow(stored, seen, err)
	}
	return k.testify(newest)
}

// checkContinues proves that the tree of the newer head begins with the one of the older.
func checkContinues(stored tlog.HashReader, older, newer Head) error {
	if older.Size == newer.Size && older.Root == newer.Root {
		return nil
	}
	proof, err := tlog.ProveTree(newer.Size, older.Size, stored)
	if err != nil {
		return err
	}
	if tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root) != nil {
		return &Broken{fmt.Sprintf("the history of %d events in the database does not begin with the one of %d events that was signed",
			newer.Size, older.Size)}
	}
	return nil
}

// narrow says where the stored tree leaves what the witness saw: between the last head that it has and the first that it
// has not.
func (k *Keeper) narrow(stored tlog.HashReader, seen Head, err error) error {
	if !IsBroken(err) {
		return err
	}
	good, bad, readErr := k.witness.split(k.key.PublicKeys, func(head Head) bool {
		root, err := tlog.TreeHash(head.Size, stored)
		return err != nil || root != head.Root
	})
	if readErr != nil || bad.Size == 0 {
		bad = seen
	}
	return &Broken{fmt.Sprintf("%v: something is different in the events %d to %d", err, good.Size+1, bad.Size)}
}

// testify shows a head to the witness, unless it has seen it or a newer one.
func (k *Keeper) testify(head Head) error {
	if head.Size == 0 {
		return nil
	}
	if err := k.witness.see(head, k.key.PublicKeys); err != nil {
		return fmt.Errorf("write down the head that was signed: %w", err)
	}
	return nil
}
