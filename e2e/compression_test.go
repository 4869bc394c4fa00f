package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestCurlCompressed has curl take what a node encodes, in each coding, and send what the node decodes.
func TestCurlCompressed(t *testing.T) {
	endpoint := map[string]any{"host": "127.0.0.1", "port": echo(t)}
	f := newFront(t, map[string]any{
		"services": []any{map[string]any{"name": "echo", "endpoints": []any{endpoint}}},
		"routes":   []any{map[string]any{"name": "echo", "path": "/echo/*", "service_id": "echo", "pipeline_id": "coded"}},
		"middleware": []any{
			map[string]any{"name": "compress", "type": "compress", "config": map[string]any{"min_bytes": 0}},
			map[string]any{"name": "decompress", "type": "decompress", "order": 1, "config": map[string]any{"max_ratio": 10000}},
		},
		"pipelines": []any{map[string]any{"name": "coded", "middleware_ids": []any{"compress", "decompress"}}},
	})
	text := []byte(strings.Repeat("0123456789abcdef", 256<<10/16))
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(text)
	_ = w.Close()
	write(t, filepath.Join(f.dir, "packed"), packed.String())
	sum := sha256.Sum256(text)
	whole := []string{fmt.Sprintf(`"Bytes":%d`, len(text)), hex.EncodeToString(sum[:])}
	upload := []string{"--data-binary", "@" + filepath.Join(f.dir, "packed"), "-H", "Content-Encoding: gzip"}
	coded := func(coding string) []string {
		return []string{"content-encoding: " + coding, "vary: accept-encoding", `"method":"get","path":"/echo/x"`}
	}
	for _, c := range []struct {
		name, base string
		args, want []string
	}{
		{"all, HTTP/1.1", f.http(), []string{"--http1.1", "--compressed"}, coded("zstd")},
		{"all, HTTP/2", f.https(), []string{"--http2", "--compressed"}, coded("zstd")},
		{"br", f.https(), []string{"--http2", "--compressed", "-H", "Accept-Encoding: br"}, coded("br")},
		{"gzip, HTTP/1.0", f.http(), []string{"--http1.0", "--compressed", "-H", "Accept-Encoding: gzip"}, coded("gzip")},
		{"upload, HTTP/1.1", f.http(), append([]string{"--http1.1", "--compressed"}, upload...), whole},
		{"upload, HTTP/2", f.https(), append([]string{"--http2"}, upload...), whole},
		{"upload with Expect", f.http(), append([]string{"--http1.1", "-H", "Expect: 100-continue"}, upload...), whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-sS", "-i", "--noproxy", "*", "--max-time", "30"}, c.args...)
			out, err := run(t, "curl", append(args, "--cacert", filepath.Join(f.dir, "ca.pem"), c.base+"/echo/x")...)
			if err != nil {
				t.Fatalf("curl: %v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}
