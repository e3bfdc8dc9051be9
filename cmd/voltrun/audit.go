package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/durable"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/projections"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Prove that history is what was recorded (docs/auditing.md)"}
	cmd.AddCommand(auditVerifyCommand(), auditBundleCommand(), auditKeyCommand())
	return cmd
}

func auditKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Show the public key that checks this log's signatures",
		Long: `Show the public key that checks this log's signatures.

Give it to those who check bundles, on another way than the bundles themselves.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := configFromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			key, err := readProofKey(config)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), key.Public())
			return nil
		},
	}
}

// auditVerification is what was asked for on the command line.
type auditVerification struct{ bundle, head, key string }

func auditVerifyCommand() *cobra.Command {
	var v auditVerification
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the whole log, or a bundle, against what was signed",
		Long: `Check the whole log against what was signed: every event against the tree, every payload against its commitment, the
tree against every head in the database and in the file heads.log of the data folder. It works on the database itself,
whether a server runs or not, and a server that runs goes on serving.

With --bundle it checks a file that "voltrun audit bundle" or GET /api/audit/bundle made, without access to anything else.

The exit code is 0 when everything is as it was recorded and signed, 1 when something is not, and 2 when that could not be
checked, in whole or in part: a file that is not there, a master key that does not fit.`,
		Args: func(cmd *cobra.Command, args []string) error { return unlessAltered(cobra.NoArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if v.bundle != "" {
				return unlessAltered(verifyBundle(v, cmd.OutOrStdout()))
			}
			return unlessAltered(verifyLog(cmd, v))
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unlessAltered(err) })
	cmd.Flags().StringVar(&v.bundle, "bundle", "", "check this file instead of the log")
	cmd.Flags().StringVar(&v.head, "head", "", "a file with a head that you have kept, which what is checked has to continue")
	cmd.Flags().StringVar(&v.key, "key", "", "the public key whose signatures count (default: the server's own; for a bundle, the one that it names)")
	return cmd
}

func verifyLog(cmd *cobra.Command, v auditVerification) error {
	config, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	keys, err := keysFor(config, v.key)
	if err != nil {
		return err
	}
	var report *proof.Report
	progress, ended := verifyProgress(cmd)
	err = withStore(cmd.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		archived := archive.Open(store.Pool(), config.ArchiveDir)
		defer archived.Close()
		report, err = proof.Verify(ctx, store.Pool(), proof.Verification{
			Codec: codec, Archive: archived, Moved: archive.NewMoved(store, codec).Covers, Keys: keys,
			Witness: filepath.Join(config.DataDir, headsFile), Kept: v.head, Progress: progress,
		})
		return err
	})
	ended(err)
	if err != nil {
		return err
	}
	showReport(cmd.OutOrStdout(), report, keys)
	if err := verdict(report); err != nil {
		return err
	}
	return requireUnlocked(config, report)
}

// requireUnlocked is the error for a check that lacked a master key.
func requireUnlocked(c config, r *proof.Report) error {
	if len(r.Locked) == 0 {
		return nil
	}
	given, err := c.masterKeys()
	if err != nil {
		return err
	}
	wanted := slices.SortedFunc(maps.Keys(r.Locked), func(a, b eventstore.MasterKeyID) int { return cmp.Compare(a.String(), b.String()) })
	var has []eventstore.MasterKeyID
	for _, key := range given {
		has = append(has, key.ID())
	}
	return fmt.Errorf("the master key does not fit, which says nothing about history: payloads need %v, but %s has %v. "+
		"Give every key that the database needs and check again (voltrun keys status tells more)", wanted, c.masterKeysFrom(), has)
}

// keysFor are the keys whose signatures count: the one that was given, or the server's.
func keysFor(c config, given string) (proof.PublicKeys, error) {
	if given != "" {
		return proof.ParsePublicKeys(given)
	}
	key, err := readProofKey(c)
	if err != nil {
		return proof.PublicKeys{}, err
	}
	return key.PublicKeys, nil
}

// verifyProgress shows how far a verification is, as rebuilds show it.
func verifyProgress(cmd *cobra.Command) (progress func(checked, of int64), ended func(error)) {
	show := progressOf(cmd, "checked")
	p := projections.Progress{Projection: "history", State: projections.RebuildReading, StartedAt: time.Now()}
	progress = func(checked, of int64) {
		p.Done, p.Total = projections.Position(checked), projections.Position(of)
		p.Rate = float64(checked) / max(time.Since(p.StartedAt).Seconds(), 1e-3)
		p.Left = float64(of-checked) / p.Rate
		show(p)
	}
	return progress, func(err error) {
		now := time.Now()
		p.State, p.EndedAt = projections.RebuildDone, &now
		switch {
		case errors.Is(err, errInterrupted):
			p.State = projections.RebuildCancelled
		case err != nil:
			p.State = projections.RebuildFailed
		}
		show(p)
	}
}

func verifyBundle(v auditVerification, out io.Writer) error {
	file, err := os.Open(v.bundle)
	if err != nil {
		return err
	}
	defer file.Close()
	check := proof.BundleVerification{Kept: v.head}
	if v.key != "" {
		keys, err := proof.ParsePublicKeys(v.key)
		if err != nil {
			return err
		}
		check.Keys = &keys
	}
	report, err := proof.VerifyBundle(file, check)
	if err != nil {
		return err
	}
	showBundleReport(out, report, check)
	return verdict(&report.Report)
}

// auditBundle is what was asked for on the command line.
type auditBundle struct {
	account, execution string
	all                bool
	since              int64
}

func auditBundleCommand() *cobra.Command {
	var b auditBundle
	cmd := &cobra.Command{
		Use:   "bundle FILE",
		Short: "Write events with their proofs to a file, for somebody who has no access",
		Long: `Write events with everything that proves them to a file: those of an account, those of an execution, or all.

Whoever gets the file checks it with "voltrun audit verify --bundle FILE", or with docs/verify-bundle.mjs, and needs nothing
else. The file holds what the events say, inputs and outputs included.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return writeBundle(cmd, b, args[0]) },
	}
	cmd.Flags().StringVar(&b.account, "account", "", "the events of this account: its email address or its id")
	cmd.Flags().StringVar(&b.execution, "execution", "", "the events of this execution")
	cmd.Flags().BoolVar(&b.all, "all", false, "all events of the log")
	cmd.Flags().Int64Var(&b.since, "since", 0, "also prove that the log continues the head of that `size`")
	return cmd
}

func writeBundle(cmd *cobra.Command, b auditBundle, path string) error {
	if b.all == (b.account != "" || b.execution != "") {
		return errors.New("say which events: --account or --execution, or --all for the whole log")
	}
	config, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	key, err := readProofKey(config)
	if err != nil {
		return err
	}
	err = withStore(cmd.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		excerpt, err := b.excerpt(ctx, store, codec)
		if err != nil {
			return err
		}
		archived := archive.Open(store.Pool(), config.ArchiveDir)
		defer archived.Close()
		return durable.WriteFile(path, func(file *os.File) error {
			return proof.NewProver(store.Pool(), codec, archived, key).WriteBundle(ctx, excerpt, file)
		})
	})
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "Written to %s. Anybody checks it with: voltrun audit verify --bundle %[1]s --key %s\n", path, key.Public())
	}
	return err
}

func (b auditBundle) excerpt(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) (excerpt proof.Excerpt, err error) {
	excerpt.Since = b.since
	if b.execution != "" {
		if excerpt.Execution, err = uuid.Parse(b.execution); err != nil {
			return excerpt, fmt.Errorf("%q is not the id of an execution", b.execution)
		}
	}
	if b.account == "" {
		return excerpt, nil
	}
	if excerpt.Account, err = uuid.Parse(b.account); err == nil {
		return excerpt, nil
	}
	excerpt.Account, err = commands.FindAccount(ctx, store, codec, b.account)
	return excerpt, err
}
