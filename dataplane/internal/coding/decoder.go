package coding

import (
	"bufio"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"gateway.internal/dataplane/internal/exchange"
)

// maxZstdWindow is the largest window of zstd that HTTP allows (RFC 9659 section 3).
const maxZstdWindow = 8 << 20

// Decoder reads from an io.Reader, decoded. Read fails with io.ErrUnexpectedEOF where the reader ends too early, and
// with another error where what it gives is not of the coding, or where something comes after its end; of gzip and
// zstd there may be several in a row. No bytes at all are taken for nothing. One goroutine uses it at a time. It does
// not wait for more than something needs to come out.
type Decoder interface {
	io.Reader
	reset(from io.Reader)
}

var decoders = [exchange.Codings]sync.Pool{
	exchange.Gzip:   {New: func() any { return newGzipDecoder() }},
	exchange.Brotli: {New: func() any { return &brotliDecoder{Reader: brotli.NewReader(nothing{})} }},
	exchange.Zstd: {New: func() any {
		r, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		return &zstdDecoder{made(r, err)}
	}},
}

// TakeDecoder returns a decoder of a coding, which is not Identity. It reads nothing before the first Read.
func TakeDecoder(c exchange.Coding, from io.Reader) Decoder {
	d := decoders[c].Get().(Decoder)
	d.reset(from)
	return d
}

// GiveDecoder gives a decoder back, wherever it is in its encoding.
func GiveDecoder(c exchange.Coding, d Decoder) {
	d.reset(nothing{}) // it keeps nothing alive
	decoders[c].Put(d)
}

// nothing has no bytes.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// gzipDecoder reads the first head when it is first read from: the library does so when it is reset.
type gzipDecoder struct {
	reader gzip.Reader
	input  *bufio.Reader
	begun  bool
}

func newGzipDecoder() *gzipDecoder { return &gzipDecoder{input: bufio.NewReaderSize(nothing{}, 8<<10)} }

func (d *gzipDecoder) reset(from io.Reader) {
	d.input.Reset(from)
	d.begun = false
}

// Read implements io.Reader.
func (d *gzipDecoder) Read(p []byte) (int, error) {
	if !d.begun {
		if err := d.reader.Reset(d.input); err != nil {
			return 0, err // io.EOF where there is nothing at all
		}
		d.begun = true
	}
	return d.reader.Read(p)
}

// brotliDecoder takes no bytes at all for nothing, as the others do.
type brotliDecoder struct {
	*brotli.Reader
	from  io.Reader
	begun bool
}

func (d *brotliDecoder) reset(from io.Reader) {
	d.from, d.begun = from, false
	_ = d.Reader.Reset(beginning{d}) // there is no error
}

// Read implements io.Reader.
func (d *brotliDecoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err == io.ErrUnexpectedEOF && !d.begun {
		err = io.EOF
	}
	return n, err
}

// beginning notes whether a brotliDecoder has read anything.
type beginning struct{ d *brotliDecoder }

func (b beginning) Read(p []byte) (int, error) {
	n, err := b.d.from.Read(p)
	b.d.begun = b.d.begun || n > 0
	return n, err
}

type zstdDecoder struct{ *zstd.Decoder }

func (d *zstdDecoder) reset(from io.Reader) { _ = d.Decoder.Reset(from) } // an error only where it is closed
