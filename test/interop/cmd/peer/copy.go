package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cairn.test/interop/internal/logfiles"
	"cairn.test/interop/internal/tesserafsck"
	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// Files of one copy written at once: their fsyncs overlap.
const copyWorkers = 8

// A copy looks for a larger checkpoint this often.
const followInterval = 20 * time.Millisecond

// copyAll keeps the copies following the log while it grows, as two mirrors would, and returns once all are verified.
//
// What is copied is what Tessera's own mirror tool copies: the static files of each new checkpoint, that checkpoint last.
// Tessera's migration was tried before: it derives the tree itself, but polls once a second, which took longer than all its work.
// Each copy calls warm once it has the warm-up.
func copyAll(ctx context.Context, s settings, key key, warm func()) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range s.copies {
		group.Go(func() error {
			c := mirror{source: logfiles.Open(placeOf(s, -1)), to: placeOf(s, i), key: key}
			if err := c.follow(ctx, int64(s.warmUp), int64(s.warmUp+s.entries), warm); err != nil {
				return fmt.Errorf("copy %d: %w", i, err)
			}
			return nil
		})
	}
	return group.Wait()
}

type mirror struct {
	source *logfiles.Log
	to     string
	key    key
}

func (m mirror) follow(ctx context.Context, warmUp, until int64, warm func()) error {
	isWarm := false
	for size := int64(0); ; {
		raw, signed, err := m.head()
		if err != nil {
			return err
		}
		if signed > size {
			if err := m.copyPieces(size, signed, signed == until); err != nil {
				return err
			}
			size = signed
		}
		if !isWarm && size >= warmUp {
			isWarm = true
			warm()
		}
		if size == until {
			return m.finish(ctx, raw)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followInterval):
		}
	}
}

// head is the source's checkpoint, verified, and its size; 0 before there is one.
func (m mirror) head() ([]byte, int64, error) {
	raw, err := m.source.Read("checkpoint")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	signed, _, _, err := log.ParseCheckpoint(raw, origin, m.key.verifier)
	if err != nil {
		return nil, 0, err
	}
	return raw, int64(signed.Size), nil
}

// copyPieces stores the full pieces that a checkpoint has beyond an older one, and all partial ones of the last: others
// would be replaced anyway.
func (m mirror) copyPieces(old, now int64, last bool) error {
	var group errgroup.Group
	group.SetLimit(copyWorkers)
	isFull := func(tile tlog.Tile) bool { return tile.W == 1<<tile.H }
	tiles := slices.DeleteFunc(tlog.NewTiles(logfiles.TileHeight, old, now), func(tile tlog.Tile) bool { return !isFull(tile) })
	if last {
		tiles = append(tiles, slices.DeleteFunc(tlog.NewTiles(logfiles.TileHeight, 0, now), isFull)...)
	}
	for _, tile := range tiles {
		group.Go(func() error { return m.copyPiece(tile) })
		if tile.L == 0 {
			bundle := tile
			bundle.L = -1
			group.Go(func() error { return m.copyPiece(bundle) })
		}
	}
	return group.Wait()
}

func (m mirror) copyPiece(tile tlog.Tile) error {
	data, err := m.source.Piece(tile)
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(m.to, logfiles.Path(tile)), data)
}

// finish writes the checkpoint and lets Tessera's fsck read the whole copy back.
func (m mirror) finish(ctx context.Context, checkpoint []byte) error {
	if err := writeDurably(filepath.Join(m.to, "checkpoint"), checkpoint); err != nil {
		return err
	}
	return tesserafsck.Check(ctx, logfiles.Open(m.to), origin, m.key.verifier, 4)
}

func writeDurably(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}
