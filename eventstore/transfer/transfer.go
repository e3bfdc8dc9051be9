// Package transfer moves history from one VoltRun to another: a whole log into an empty one, or one account into a log
// that has others.
//
// An export is one file, gzip over lines of JSON. What is secret in it is sealed under a transfer key, which travels another
// way. The last line proves that nothing is missing and nothing was altered. Events keep their ids and their commitments;
// in a whole log they keep their positions and times as well, so that its proof stays true.
package transfer
