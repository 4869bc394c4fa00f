// Package coding encodes and decodes bodies in the content codings of HTTP: gzip (RFC 1952), br (RFC 7932) and zstd
// (RFC 8878). Encoders and decoders are kept and used again. It does not know which messages are encoded.
package coding

import (
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"gateway.internal/dataplane/internal/exchange"
)

// An encoder keeps the last 128 KiB of what it has encoded, where the coding allows that: less memory for each open
// response counts for more than the percent or two that a longer memory saves.
const (
	windowBits = 17
	window     = 1 << windowBits
)

// The efforts are those of which the next one costs far more than it saves, measured with JSON of 1 to 100 KiB.
const (
	gzipLevel   = gzip.BestSpeed
	brotliLevel = 2
	zstdLevel   = zstd.SpeedFastest
)

// Encoder writes to an io.Writer what is written to it, encoded. One goroutine uses it at a time.
type Encoder interface {
	io.Writer
	// Flush makes everything that has been written come out.
	Flush() error
	// Close is Flush with the end of the encoding. The io.Writer is not closed.
	Close() error
	// Reset begins another encoding.
	Reset(to io.Writer)
}

var encoders = [exchange.Codings]sync.Pool{
	exchange.Gzip: {New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzipLevel)
		return made[Encoder](w, err)
	}},
	exchange.Brotli: {New: func() any {
		return Encoder(brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brotliLevel, LGWin: windowBits}))
	}},
	exchange.Zstd: {New: func() any {
		w, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstdLevel), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window),
			zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		return made[Encoder](w, err)
	}},
}

// made returns what was made with options that are constants, so that there is no error.
func made[T any](thing T, err error) T {
	if err != nil {
		panic(err)
	}
	return thing
}

// TakeEncoder returns an encoder of a coding, which is not Identity.
func TakeEncoder(c exchange.Coding, to io.Writer) Encoder {
	e := encoders[c].Get().(Encoder)
	e.Reset(to)
	return e
}

// GiveEncoder gives an encoder back, wherever it is in its encoding.
func GiveEncoder(c exchange.Coding, e Encoder) {
	e.Reset(io.Discard) // it keeps nothing alive
	encoders[c].Put(e)
}
