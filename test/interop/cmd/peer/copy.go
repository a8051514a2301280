package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"cairn.test/interop/internal/logfiles"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/sync/errgroup"
)

// Workers of one copy: more than two did not help on two cores.
const copyWorkers = 4

// copyAll makes the copies at the same time, as two secondaries would.
func copyAll(ctx context.Context, s settings, key key) error {
	var group errgroup.Group
	for i := range s.copies {
		group.Go(func() error {
			if err := copyOne(ctx, placeOf(s, -1), placeOf(s, i), key); err != nil {
				return fmt.Errorf("copy %d: %w", i, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// copyOne lets Tessera's migration store the bundles durably and derive the tree anew; it fails unless it reaches the
// signed root. The checkpoint comes last, then fsck reads the whole copy back.
func copyOne(ctx context.Context, from, to string, key key) error {
	source := client.FileFetcher{Root: from}
	raw, err := source.ReadCheckpoint(ctx)
	if err != nil {
		return err
	}
	signed, _, _, err := log.ParseCheckpoint(raw, origin, key.verifier)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: to})
	if err != nil {
		return err
	}
	target, err := tessera.NewMigrationTarget(ctx, driver, tessera.NewMigrationOptions())
	if err != nil {
		return err
	}
	if err := target.Migrate(ctx, copyWorkers, signed.Size, signed.Hash, source.ReadEntryBundle); err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(to, "checkpoint"), raw); err != nil {
		return err
	}
	return fsck.New(origin, key.verifier, client.FileFetcher{Root: to}, logfiles.LeafHashes, fsck.Opts{N: copyWorkers}).Check(ctx)
}

func writeDurably(path string, data []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		file.Close()
		return err
	}
	if err := file.Sync(); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
