package coding

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"gateway.internal/dataplane/internal/exchange"
)

var all = []exchange.Coding{exchange.Gzip, exchange.Brotli, exchange.Zstd}

func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"user-%x","mail":"u%d@example.com"},`, i*7919, i*2654435761, i*31)
	}
	return b.Bytes()[:n]
}

func encode(c exchange.Coding, parts ...[]byte) []byte {
	var out bytes.Buffer
	e := TakeEncoder(c, &out)
	for _, p := range parts {
		_, _ = e.Write(p)
		_ = e.Flush()
	}
	_ = e.Close()
	GiveEncoder(c, e)
	return out.Bytes()
}

// reference decodes with other code than a Decoder's, as far as there is other code.
func reference(c exchange.Coding, b []byte) ([]byte, error) {
	switch c {
	case exchange.Gzip:
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case exchange.Brotli:
		return io.ReadAll(brotli.NewReader(bytes.NewReader(b)))
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.DecodeAll(b, nil)
}

func decode(c exchange.Coding, from io.Reader) ([]byte, error) {
	d := TakeDecoder(c, from)
	defer GiveDecoder(c, d)
	return io.ReadAll(d)
}

func TestRoundTrips(t *testing.T) {
	for _, c := range all {
		for _, n := range []int{0, 1, 1000, 200_000} {
			plain := text(n)
			encoded := encode(c, plain[:n/3], plain[n/3:])
			if got, err := reference(c, encoded); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s of %d bytes: %d bytes, %v", c, n, len(got), err)
			}
			for _, from := range []io.Reader{bytes.NewReader(encoded), iotest.OneByteReader(bytes.NewReader(encoded))} {
				if got, err := decode(c, from); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s of %d bytes: decoded %d bytes, %v", c, n, len(got), err)
				}
			}
		}
	}
}

// TestFlushedPartsAreReadable decodes each part before the next one is written, on both sides.
func TestFlushedPartsAreReadable(t *testing.T) {
	for _, c := range all {
		from, to := io.Pipe()
		e, d := TakeEncoder(c, to), TakeDecoder(c, from)
		wrote := make(chan struct{})
		read := make([]byte, 100)
		for i := range 5 {
			part := fmt.Sprintf("event %d\n", i)
			go func() {
				_, _ = e.Write([]byte(part))
				_ = e.Flush()
				wrote <- struct{}{}
			}()
			if n, err := io.ReadFull(d, read[:len(part)]); err != nil || string(read[:n]) != part {
				t.Fatalf("%s: part %d: %q, %v", c, i, read[:n], err)
			}
			<-wrote
		}
		go func() {
			_ = e.Close()
			_ = to.Close()
		}()
		if rest, err := io.ReadAll(d); err != nil || len(rest) > 0 {
			t.Errorf("%s: the end: %q, %v", c, rest, err)
		}
	}
}

func TestMalformedEncodings(t *testing.T) {
	plain := text(5000)
	for _, c := range all {
		whole := encode(c, plain)
		for name, b := range map[string][]byte{
			"truncated": whole[:len(whole)-1], "half": whole[:len(whole)/2], "begun": whole[:1],
			"garbage behind": append(bytes.Clone(whole), "garbage"...), "garbage": []byte("this is plain text"),
		} {
			if got, err := decode(c, bytes.NewReader(b)); err == nil {
				t.Errorf("%s, %s: took it for %d bytes", c, name, len(got))
			}
			// What was broken off is as good as new.
			if got, err := decode(c, bytes.NewReader(whole)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, after %s: %d bytes, %v", c, name, len(got), err)
			}
		}
		if got, err := decode(c, bytes.NewReader(nil)); err != nil || len(got) > 0 {
			t.Errorf("%s, nothing: %q, %v", c, got, err)
		}
	}
	for _, c := range []exchange.Coding{exchange.Gzip, exchange.Zstd} {
		twice := append(encode(c, plain), encode(c, plain)...)
		if got, err := decode(c, bytes.NewReader(twice)); err != nil || !bytes.Equal(got, append(bytes.Clone(plain), plain...)) {
			t.Errorf("%s, two in a row: %d bytes, %v", c, len(got), err)
		}
	}
}

// TestLargeZstdWindows sends a window that HTTP does not allow: its memory must not be taken.
func TestLargeZstdWindows(t *testing.T) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(16<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(bytes.Repeat([]byte("a"), 20<<20))
	_ = w.Close()
	if got, err := decode(exchange.Zstd, &out); err == nil {
		t.Errorf("decoded %d bytes", len(got))
	}
}

// FuzzDecode decodes anything. Decoders that were broken off before are used again, and agree with new ones.
func FuzzDecode(f *testing.F) {
	for i, c := range all {
		b := encode(c, text(300))
		zeros := encode(c, make([]byte, 1<<20))
		for _, s := range [][]byte{b, b[:len(b)/2], append(bytes.Clone(b), b...), append(bytes.Clone(b), 0), zeros, nil} {
			f.Add(uint8(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		c := all[int(which)%len(all)]
		const most = 4 << 20
		first, firstErr := decode(c, io.LimitReader(bytes.NewReader(b), int64(len(b)/2))) // leaves it broken off
		_, _ = first, firstErr
		d := TakeDecoder(c, iotest.HalfReader(bytes.NewReader(b)))
		got, err := io.ReadAll(io.LimitReader(d, most))
		GiveDecoder(c, d)
		if len(got) == most {
			return
		}
		if len(b) == 0 {
			if err != nil || len(got) > 0 {
				t.Fatalf("%s: nothing is %q, %v", c, got, err)
			}
			return
		}
		want, wantErr := reference(c, b)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; a new one: %d bytes, %v", c, len(got), err, len(want), wantErr)
		}
	})
}
