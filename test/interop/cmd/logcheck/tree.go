package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cairn.test/interop/internal/logfiles"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is the log as derived from its entries alone, and the files to hold it against.
type tree struct {
	log    *logfiles.Log
	head   head
	hashes []tlog.Hash // every complete subtree, in the order of tlog.StoredHashIndex
}

const width = 1 << logfiles.TileHeight

// derive reads each entry bundle, hashes each entry and compares the root with the signed one.
func derive(log *logfiles.Log, head head) (*tree, error) {
	t := &tree{log: log, head: head, hashes: make([]tlog.Hash, 0, tlog.StoredHashCount(head.size))}
	for n := int64(0); n*width < head.size; n++ {
		bundle := tlog.Tile{H: logfiles.TileHeight, L: -1, N: n, W: int(min(width, head.size-n*width))}
		entries, err := t.entries(bundle)
		if err != nil {
			return nil, err
		}
		for i, entry := range entries {
			stored, err := tlog.StoredHashesForRecordHash(n*width+int64(i), tlog.RecordHash(entry), t)
			if err != nil {
				return nil, err
			}
			t.hashes = append(t.hashes, stored...)
		}
	}
	root, err := t.rootAt(head.size)
	if err != nil {
		return nil, err
	}
	if root != head.root {
		return nil, fmt.Errorf("size %d: the entries lead to root %v, the checkpoint says %v", head.size, root, head.root)
	}
	return t, nil
}

func (t *tree) entries(bundle tlog.Tile) ([][]byte, error) {
	raw, err := t.log.Piece(bundle)
	if err != nil {
		return nil, err
	}
	entries, err := logfiles.Entries(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", logfiles.Path(bundle), err)
	}
	if len(entries) != bundle.W {
		return nil, fmt.Errorf("%s: %d entries, want %d", logfiles.Path(bundle), len(entries), bundle.W)
	}
	return entries, nil
}

// ReadHashes makes the derived hashes a tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("hash %d is not derived yet", index)
		}
		hashes[i] = t.hashes[index]
	}
	return hashes, nil
}

func (t *tree) rootAt(size int64) (tlog.Hash, error) { return tlog.TreeHash(size, t) }

// checkTiles compares every tile of a tree of this size with the one derived from the entries.
func (t *tree) checkTiles(size int64) error {
	for _, tile := range tlog.NewTiles(logfiles.TileHeight, 0, size) {
		if err := t.checkTile(tile); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) checkTile(tile tlog.Tile) error {
	got, err := t.log.Piece(tile)
	if err != nil {
		return err
	}
	want, err := tlog.ReadTileData(tile, t)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s: %d bytes, want %d", logfiles.Path(tile), len(got), len(want))
	}
	for at := 0; at < len(want); at += tlog.HashSize {
		if g, w := got[at:at+tlog.HashSize], want[at:at+tlog.HashSize]; !bytes.Equal(g, w) {
			return fmt.Errorf("%s: hash %d is %x, the entries lead to %x", logfiles.Path(tile), at/tlog.HashSize, g, w)
		}
	}
	return nil
}

// checkPublished looks for the partial tiles and bundles that older heads need.
func (t *tree) checkPublished(sizes []int64) error {
	for _, size := range sizes {
		if size > t.head.size {
			return fmt.Errorf("published size %d is above the head's %d", size, t.head.size)
		}
		for _, tile := range tlog.NewTiles(logfiles.TileHeight, 0, size) {
			if tile.W == width {
				continue
			}
			if err := t.checkTile(tile); err != nil {
				return fmt.Errorf("published size %d: %w", size, err)
			}
			if tile.L == 0 {
				tile.L = -1
				if _, err := t.entries(tile); err != nil {
					return fmt.Errorf("published size %d: %w", size, err)
				}
			}
		}
	}
	return nil
}

// sampled returns at most count indexes, first and last among them; 0 means all.
func (t *tree) sampled(count int64) []int64 {
	size := t.head.size
	step := int64(1)
	if count > 0 && size > count {
		step = (size + count - 1) / count
	}
	var indexes []int64
	for i := int64(0); i < size; i += step {
		indexes = append(indexes, i)
	}
	if size > 0 && indexes[len(indexes)-1] != size-1 {
		indexes = append(indexes, size-1)
	}
	return indexes
}

// checkInclusion makes proofs from the published tiles, as a client would, and checks them against derived leaf hashes.
func (t *tree) checkInclusion(count int64) error {
	reader := tlog.TileHashReader(tlog.Tree{N: t.head.size, Hash: t.head.root}, newTileCache(t.log))
	for _, index := range t.sampled(count) {
		proof, err := tlog.ProveRecord(t.head.size, index, reader)
		if err != nil {
			return fmt.Errorf("inclusion of %d in %d: %w", index, t.head.size, err)
		}
		if err := tlog.CheckRecord(proof, t.head.size, t.head.root, index, t.leaf(index)); err != nil {
			return fmt.Errorf("inclusion of %d in %d: %w", index, t.head.size, err)
		}
	}
	return nil
}

func (t *tree) leaf(index int64) tlog.Hash { return t.hashes[tlog.StoredHashIndex(0, index)] }

// checkConsistency proves each size to begin the next one and the head.
func (t *tree) checkConsistency(sizes []int64) error {
	reader := tlog.TileHashReader(tlog.Tree{N: t.head.size, Hash: t.head.root}, newTileCache(t.log))
	sizes = slices.DeleteFunc(slices.Sorted(slices.Values(sizes)), func(size int64) bool { return size == 0 || size > t.head.size })
	for i, old := range sizes {
		for _, now := range append(slices.Clone(sizes[i+1:min(i+2, len(sizes))]), t.head.size) {
			if err := t.checkExtends(now, old, reader); err != nil {
				return fmt.Errorf("consistency of %d with %d: %w", old, now, err)
			}
		}
	}
	return nil
}

func (t *tree) checkExtends(now, old int64, reader tlog.HashReader) error {
	oldRoot, err := t.rootAt(old)
	if err != nil {
		return err
	}
	nowRoot, err := t.rootAt(now)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(now, old, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, now, nowRoot, old, oldRoot)
}

// checkServedProofs asks the log for its own .tlog-proof texts (c2sp.org/tlog-proof) and checks each.
func (t *tree) checkServedProofs(count int64) error {
	if !t.log.Remote() {
		return errors.New("served proofs are asked for over HTTP only")
	}
	for _, index := range t.sampled(count) {
		raw, err := t.log.Read(fmt.Sprintf("proof?index=%d", index))
		if err != nil {
			return err
		}
		if err := t.checkProofText(string(raw), index); err != nil {
			return fmt.Errorf("proof of %d: %w", index, err)
		}
	}
	return nil
}

func (t *tree) checkProofText(text string, index int64) error {
	top, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(top, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || lines[0] != "index "+strconv.FormatInt(index, 10) {
		return fmt.Errorf("want the line index %d", index)
	}
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return fmt.Errorf("%q is no hash", line)
		}
		path = append(path, tlog.Hash(hash))
	}
	signed, err := openNote([]byte(checkpoint), t.head.verifier)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, signed.size, signed.root, index, t.leaf(index))
}

// tileCache reads tiles for tlog.TileHashReader, which authenticates what it gets on every use.
type tileCache struct {
	log   *logfiles.Log
	known map[tlog.Tile][]byte
}

// Tiles kept: enough for the path of any two neighbours.
const tilesKeptMax = 256

func newTileCache(log *logfiles.Log) *tileCache {
	return &tileCache{log: log, known: map[tlog.Tile][]byte{}}
}

func (c *tileCache) Height() int { return logfiles.TileHeight }

func (c *tileCache) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		known, ok := c.known[tile]
		if !ok {
			read, err := c.log.Piece(tile)
			if err != nil {
				return nil, err
			}
			if len(read) != tile.W*tlog.HashSize {
				return nil, fmt.Errorf("%s: %d bytes, want %d", logfiles.Path(tile), len(read), tile.W*tlog.HashSize)
			}
			known = read
			if len(c.known) >= tilesKeptMax {
				clear(c.known)
			}
			c.known[tile] = known
		}
		data[i] = known
	}
	return data, nil
}

func (c *tileCache) SaveTiles([]tlog.Tile, [][]byte) {}
