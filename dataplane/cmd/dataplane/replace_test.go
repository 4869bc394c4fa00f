package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A program that is started to replace this one and does nothing is ended, so that another one can be tried; one that has said so is not.
func TestRespawnedProgramThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 20\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &respawner{log: slog.New(slog.DiscardHandler), path: path, patience: 100 * time.Millisecond}
	ended := func(within time.Duration) bool {
		for end := time.Now().Add(within); r.pid.Load() != 0; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	for range 2 {
		r.respawn()
		r.met(os.Getpid()) // another one
		if r.pid.Load() == 0 {
			t.Fatal("the program was not started")
		}
		if !ended(10 * time.Second) {
			t.Fatal("the program was not ended")
		}
	}
	r.respawn()
	r.met(int(r.pid.Load()))
	p, err := os.FindProcess(int(r.pid.Load()))
	if err != nil {
		t.Fatal(err)
	}
	r.giveUp(p) // as where the time was over just when it said so
	if ended(3 * r.patience) {
		t.Error("a program that has said what it wants was ended")
	}
	if p.Kill() != nil || !ended(10*time.Second) {
		t.Error("the program could not be ended")
	}
}
