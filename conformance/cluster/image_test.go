package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestDockerArchive(t *testing.T) {
	program := filepath.Join(t.TempDir(), "echo")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	described := []image{{program: "echo", user: "65532:65532", tags: []string{"example.org/echo:1", "example.org/echo:2"}}}
	var archives [2]bytes.Buffer
	for i := range archives {
		if err := writeDockerArchive(&archives[i], described, map[string]string{"echo": program}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("the same image gave different bytes")
	}
	files := untar(t, &archives[0])
	var manifest []archiveEntry
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].RepoTags) != 2 {
		t.Fatalf("manifest %+v", manifest)
	}
	var config struct {
		Config struct{ User string }
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]]
	if config.Config.User != "65532:65532" || config.Rootfs.DiffIDs[0] != "sha256:"+digest(layer) {
		t.Errorf("config %+v", config)
	}
	if string(untar(t, bytes.NewReader(layer))["echo"]) != "program" {
		t.Error("the layer does not hold the program")
	}
}

func untar(t *testing.T, from io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	archive := tar.NewReader(from)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
