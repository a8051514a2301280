// Package tesserafsck runs Tessera's fsck over a published log, so that it ends also when it finds something.
package tesserafsck

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn.test/interop/internal/logfiles"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

// Longer than any log of ours takes. Needed because of the gap below.
const patience = 5 * time.Minute

// Check returns nil when the whole log is as its checkpoint says.
//
// In Tessera v1.0.4 a worker that found a difference leaves, and when all have left the check waits for ever. So the
// first failed read ends it at once, and patience ends the rest.
func Check(ctx context.Context, log *logfiles.Log, origin string, verifier note.Verifier, workers uint) error {
	files, err := log.Fetcher()
	if err != nil {
		return err
	}
	watched := watchedFetcher{files, make(chan error, 1)}
	done := make(chan error, 1)
	go func() {
		done <- fsck.New(origin, verifier, watched, logfiles.LeafHashes, fsck.Opts{N: workers}).Check(ctx)
	}()
	select {
	case err := <-done:
		return err
	case err := <-watched.failed:
		return err
	case <-time.After(patience):
		return errors.New("tessera's fsck did not end: it found a difference, or it hangs")
	}
}

// watchedFetcher tells the first read that failed.
type watchedFetcher struct {
	fsck.Fetcher
	failed chan error
}

func (f watchedFetcher) ReadTile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error) {
	data, err := f.Fetcher.ReadTile(ctx, level, index, partial)
	return data, f.tell(fmt.Sprintf("tile %d/%d", level, index), err)
}

func (f watchedFetcher) ReadEntryBundle(ctx context.Context, index uint64, partial uint8) ([]byte, error) {
	data, err := f.Fetcher.ReadEntryBundle(ctx, index, partial)
	return data, f.tell(fmt.Sprintf("bundle %d", index), err)
}

func (f watchedFetcher) tell(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	select {
	case f.failed <- err:
	default: // another one was first
	}
	return err
}
