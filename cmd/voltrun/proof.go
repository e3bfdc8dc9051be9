package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/interfaces/rest"
)

const (
	// proofKeyFile holds the key that signs the heads of the log, when VOLTRUN_PROOF_KEY does not.
	proofKeyFile = "proof_key"
	// headsFile holds the heads that this server has signed or seen; old ones are thinned out.
	headsFile = "heads.log"
)

// newProofKey returns the key that signs the heads of the log: the configured one, or the data folder's own, which is made
// at the first start.
func newProofKey(c config) (*proof.Key, error) {
	if c.ProofKey == "" {
		if err := makeSecret(filepath.Join(c.DataDir, proofKeyFile), proof.GenerateKey()); err != nil {
			return nil, fmt.Errorf("make the key that signs history: %w", err)
		}
	}
	return readProofKey(c)
}

// readProofKey is newProofKey for whoever must not make one.
func readProofKey(c config) (*proof.Key, error) {
	text, source := c.ProofKey, "VOLTRUN_PROOF_KEY"
	if text == "" {
		source = filepath.Join(c.DataDir, proofKeyFile)
		content, err := os.ReadFile(source)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no key yet in %s; a server makes it at its first start (VOLTRUN_DATA says where its data is)", source)
		}
		if err != nil {
			return nil, fmt.Errorf("read the key that signs history: %w", err)
		}
		text = string(content)
	}
	key, err := proof.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	key.Source = source
	return key, nil
}

func newKeeper(c config, store *postgres.Store, key *proof.Key, logger *slog.Logger) *proof.Keeper {
	return proof.NewKeeper(store, key, proof.Witness{Path: filepath.Join(c.DataDir, headsFile)}, logger)
}

func newProver(store *postgres.Store, codec *eventstore.Codec, archived *archive.Archive, key *proof.Key) *proof.Prover {
	return proof.NewProver(store.Pool(), codec, archived, key)
}

func startKeeper(lc fx.Lifecycle, keeper *proof.Keeper) {
	lc.Append(fx.StartStopHook(keeper.Start, keeper.Stop))
}

// proofFor lets the API ask for the proof of history.
func proofFor(prover *proof.Prover, keeper *proof.Keeper) rest.Proof {
	return rest.Proof{
		Checkpoint: func(ctx context.Context) (any, string, error) {
			checkpoint, err := prover.Checkpoint(ctx)
			return checkpoint, checkpoint.Note, err
		},
		Event: func(ctx context.Context, account uuid.UUID, position, size int64) (any, error) {
			return prover.Event(ctx, account, position, size)
		},
		Consistency: func(ctx context.Context, from, to int64) (any, error) { return prover.Consistency(ctx, from, to) },
		Bundle: func(ctx context.Context, account, execution uuid.UUID, since int64, to io.Writer) error {
			return prover.WriteBundle(ctx, proof.Excerpt{Account: account, Execution: execution, Since: since}, to)
		},
		Status: func() rest.ProofStatus { return rest.ProofStatus(keeper.Status()) },
	}
}
