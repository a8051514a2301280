// Logcheck verifies a published log with code that is not Cairn's: golang.org/x/mod/sumdb for the notes, the tree and
// the proofs, then Tessera's fsck over the same files. It prints `ok size N`, or what is wrong and exits 1.
//
//	logcheck [-sizes 1,255,256] [-published 1,255] [-sample N] [-cosigner VKEY]... [-served-proofs] [-fsck=false] DIR|URL VKEY
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"cairn.test/interop/internal/logfiles"
	"cairn.test/interop/internal/quiet"
	"cairn.test/interop/internal/tesserafsck"
)

type options struct {
	sizes        []int64  // consistency proofs lead from each of these to the next, and to the head
	published    []int64  // partial pieces of these older heads must still be there
	sample       int64    // at most so many inclusion proofs, evenly spread; 0 means every entry
	cosigners    []string // vkeys that must have cosigned
	servedProofs bool     // also check the .tlog-proof that the log itself serves for each sampled entry
	fsck         bool
}

func main() {
	quiet.Logs()
	var opts options
	flag.Func("sizes", "comma-separated tree sizes to prove consistency between", sizeList(&opts.sizes))
	flag.Func("published", "comma-separated sizes of older heads whose partial tiles must be served", sizeList(&opts.published))
	flag.Int64Var(&opts.sample, "sample", 1000, "number of inclusion proofs, 0 for every entry")
	flag.Func("cosigner", "vkey of a cosigner that must have signed the checkpoint; may be repeated", func(vkey string) error {
		opts.cosigners = append(opts.cosigners, vkey)
		return nil
	})
	flag.BoolVar(&opts.servedProofs, "served-proofs", false, "check the proofs that the log serves under /proof")
	flag.BoolVar(&opts.fsck, "fsck", true, "run Tessera's fsck too")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: logcheck [flags] DIR|URL VKEY")
		os.Exit(2)
	}
	size, err := check(flag.Arg(0), flag.Arg(1), opts)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("ok size %d\n", size)
}

func check(place, vkey string, opts options) (int64, error) {
	log := logfiles.Open(place)
	head, err := openHead(log, vkey, opts.cosigners)
	if err != nil {
		return 0, err
	}
	tree, err := derive(log, head)
	if err != nil {
		return 0, err
	}
	for _, step := range []func() error{
		func() error { return tree.checkTiles(head.size) },
		func() error { return tree.checkPublished(opts.published) },
		func() error { return tree.checkInclusion(opts.sample) },
		func() error { return tree.checkConsistency(opts.sizes) },
		func() error {
			if !opts.servedProofs {
				return nil
			}
			return tree.checkServedProofs(opts.sample)
		},
		func() error {
			if !opts.fsck || head.size == 0 { // fsck takes an empty log for one that has not started
				return nil
			}
			return runFsck(log, head)
		},
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return head.size, nil
}

func runFsck(log *logfiles.Log, head head) error {
	if err := tesserafsck.Check(context.Background(), log, head.origin, head.verifier, 4); err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	return nil
}

func sizeList(to *[]int64) func(string) error {
	return func(text string) error {
		for _, word := range strings.Split(text, ",") {
			size, err := strconv.ParseInt(word, 10, 64)
			if err != nil || size < 0 {
				return fmt.Errorf("%q is no tree size", word)
			}
			*to = append(*to, size)
		}
		return nil
	}
}
