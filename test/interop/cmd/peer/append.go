package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

const origin = "peer.example/log"

type key struct {
	vkey     string
	signer   note.Signer
	verifier note.Verifier
}

func newKey() (key, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return key{}, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return key{}, err
	}
	verifier, err := note.NewVerifier(vkey)
	return key{vkey: vkey, signer: signer, verifier: verifier}, err
}

// appendAll returns once a checkpoint of the whole log is signed and published. Between warm-up and entries it calls start.
func appendAll(ctx context.Context, s settings, key key, start func()) error {
	driver, err := posix.New(ctx, posix.Config{Path: placeOf(s, -1)})
	if err != nil {
		return err
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(key.signer).
		WithCheckpointInterval(s.checkpoint).
		WithBatching(s.batch, s.age).
		WithPushback(4 * s.inFlight).
		WithGarbageCollectionInterval(0) // removing old partial tiles is work of another hour
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		return err
	}
	if s.warmUp > 0 {
		if err := submit(ctx, s, 0, s.warmUp, appender.Add); err != nil {
			return err
		}
		if err := awaitCheckpoint(ctx, s.warmUp, reader, key.verifier); err != nil {
			return err
		}
	}
	start()
	if err := submit(ctx, s, s.warmUp, s.warmUp+s.entries, appender.Add); err != nil {
		return err
	}
	if err := awaitCheckpoint(ctx, s.warmUp+s.entries, reader, key.verifier); err != nil {
		return err
	}
	return shutdown(ctx)
}

// submit adds entries [from, to), keeps a bounded number of them in flight and collects every answer.
func submit(ctx context.Context, s settings, from, to uint64, add tessera.AddFn) error {
	futures := make(chan tessera.IndexFuture, s.inFlight)
	go func() {
		defer close(futures)
		for i := from; i < to; i++ {
			futures <- add(ctx, tessera.NewEntry(entry(i, s.bytes)))
		}
	}()
	for future := range futures {
		if _, err := future(); err != nil {
			return fmt.Errorf("add: %w", err)
		}
	}
	return nil
}

// entry is different for each index, so that no deduplication helps.
func entry(i uint64, size int) []byte {
	data := make([]byte, size)
	for at := range data {
		data[at] = byte(i) + byte(at)
	}
	binary.BigEndian.PutUint64(data, i)
	return data
}

func awaitCheckpoint(ctx context.Context, size uint64, reader tessera.LogReader, verifier note.Verifier) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		raw, err := reader.ReadCheckpoint(ctx)
		if err != nil {
			return err
		}
		signed, _, _, err := log.ParseCheckpoint(raw, origin, verifier)
		if err != nil {
			return err
		}
		if signed.Size == size {
			return nil
		}
	}
	return errors.New("no checkpoint of the whole log within a minute")
}
