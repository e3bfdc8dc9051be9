package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/voltrun/voltrun/eventstore/proof"
)

// showReport tells what a check of the log found.
func showReport(out io.Writer, r *proof.Report, keys proof.PublicKeys) {
	var heads []string
	for _, source := range r.Sources {
		heads = append(heads, fmt.Sprintf("%d %s", source.Heads, source.Name))
	}
	fmt.Fprintf(out, "events    %d\n", r.Events)
	fmt.Fprintf(out, "payloads  %s\n", payloads(r))
	fmt.Fprintf(out, "heads     %s\n", strings.Join(heads, ", "))
	if r.Signed.Size > 0 {
		fmt.Fprintf(out, "signed    the events 1 to %d, root %s%s\n", r.Signed.Size, r.Signed.Root, signedAt(r.Signed))
	}
	fmt.Fprintf(out, "key       %s\n", keys)
	for _, remark := range r.Remarks {
		fmt.Fprintf(out, "note      %s\n", remark)
	}
	for id, n := range r.Locked {
		fmt.Fprintf(out, "NOT CHECKED  what %d events say: their data keys are wrapped by the master key %s, which is not given\n", n, id)
	}
	showProblems(out, r)
	if len(r.Problems) == 0 && len(r.Locked) == 0 {
		fmt.Fprintln(out, "OK: every event is there, in its place, and as it was when it was signed.")
	}
}

func payloads(r *proof.Report) string {
	return fmt.Sprintf("%d are what was recorded; %d are erased and %d archived, which were not opened", r.Opened, r.Erased, r.Archived)
}

func signedAt(head proof.Head) string {
	if head.SignedAt.IsZero() {
		return ""
	}
	return ", at " + head.SignedAt.Format(time.RFC3339)
}

func showProblems(out io.Writer, r *proof.Report) {
	for _, problem := range r.Problems {
		fmt.Fprintf(out, "WRONG     %s\n", problem.Text)
	}
	if r.Left > 0 {
		fmt.Fprintf(out, "WRONG     and %d more\n", r.Left)
	}
}

// errAltered is why a check is bad because of what it found.
var errAltered = errors.New("this is not what was recorded and signed")

// verdict is the error for a check that found something wrong.
func verdict(r *proof.Report) error {
	switch wrong := len(r.Problems) + r.Left; wrong {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: see the line WRONG above", errAltered)
	default:
		return fmt.Errorf("%w: see the %d lines WRONG above", errAltered, wrong)
	}
}

// uncheckedError is why something could not be checked. Whoever watches over a log by a script has to tell that from history
// that was altered.
type uncheckedError struct{ error }

// ExitCode is what the process ends with.
func (uncheckedError) ExitCode() int { return 2 }

func (e uncheckedError) Unwrap() error { return e.error }

// unlessAltered makes every other error than what a check found one that kept it from being made.
func unlessAltered(err error) error {
	if err == nil || errors.Is(err, errAltered) {
		return err
	}
	return uncheckedError{err}
}

// showBundleReport tells what a check of a bundle found, and what such a check cannot find.
func showBundleReport(out io.Writer, r *proof.BundleReport, check proof.BundleVerification) {
	fmt.Fprintf(out, "events    %d%s, of a log of %d\n", r.Events, about(r.Header), r.Head.Size)
	fmt.Fprintf(out, "payloads  %s\n", payloads(&r.Report))
	fmt.Fprintf(out, "head      %d events, root %s\n", r.Head.Size, r.Head.Root)
	if check.Keys != nil {
		fmt.Fprintf(out, "key       %s, which you gave\n", check.Keys)
	} else {
		fmt.Fprintf(out, "key       %s, which the bundle names itself: compare it with the one that you know, or give that with --key\n", r.Header.PublicKey)
	}
	showProblems(out, &r.Report)
	if len(r.Problems) > 0 {
		return
	}
	if r.Kept > 0 {
		fmt.Fprintln(out, "kept      the log continues the head that you kept")
	}
	if r.Header.Complete {
		fmt.Fprintln(out, "OK: these are all events that the head covers, in their places, and as they were when it was signed.")
	} else {
		fmt.Fprintln(out, "OK: each event stands in the log that was signed, in its place, and as it was then.")
		fmt.Fprintln(out, "NOT PROVED: that there are no other events. Only a bundle of the whole log (--all) proves that.")
	}
	for _, remark := range r.Remarks {
		fmt.Fprintf(out, "NOT PROVED: %s\n", remark)
	}
}

// about says what the events of a bundle have in common.
func about(h proof.Header) string {
	switch {
	case h.Execution != nil:
		return " of execution " + h.Execution.String()
	case h.Account != nil:
		return " of account " + h.Account.String()
	}
	return ""
}
