package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// image is a container image that holds one static program.
type image struct {
	program string // target and file of the same name
	user    string
	tags    []string
}

const pauseImage = "portcullis.dev/conformance/pause:1"
const corednsImage = "portcullis.dev/conformance/coredns:1"

// images are the node's images; the tags of echo-basic are the ones that the suites' manifests name.
var images = []image{
	{program: "pause", user: "65535:65535", tags: []string{pauseImage}},
	{program: "coredns", user: "65532:65532", tags: []string{corednsImage}},
	// The suite v1.4.1 has it serve port 53, which on this node takes root's capability to do so.
	{program: "coredns", user: "0:0", tags: []string{"registry.k8s.io/coredns/coredns:v1.12.2"}},
	{program: "echo-basic", user: "65532:65532", tags: []string{
		"registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0",
		"registry.k8s.io/gateway-api/conformance/echo-basic:v0.2.0",
		"gcr.io/k8s-staging-gateway-api/echo-basic:v20240412-v1.0.0-394-g40c666fd",
	}},
}

// imagesTarget is one docker archive with all images.
func imagesTarget() target {
	return target{
		name: "images", group: "cluster", inputs: []string{fmt.Sprint(images)}, needs: []string{"pause", "coredns", "echo-basic"},
		build: func(b *builder, folder string) error {
			file, err := os.Create(filepath.Join(folder, "images.tar"))
			if err != nil {
				return err
			}
			defer file.Close()
			programs := map[string]string{}
			for _, i := range images {
				built, err := b.folder(b.target(i.program))
				if err != nil {
					return err
				}
				programs[i.program] = filepath.Join(built, i.program)
			}
			if err := writeDockerArchive(file, images, programs); err != nil {
				return err
			}
			return file.Close()
		},
	}
}

type archiveEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeDockerArchive writes images as `docker save` does: per image one layer and one configuration, and a
// manifest.json. The same programs give the same bytes.
func writeDockerArchive(out io.Writer, images []image, programs map[string]string) error {
	archive := tar.NewWriter(out)
	var manifest []archiveEntry
	written := map[string]bool{}
	for _, i := range images {
		program, err := os.ReadFile(programs[i.program])
		if err != nil {
			return err
		}
		layer, err := layerOf(i.program, program)
		if err != nil {
			return err
		}
		layerDigest := digest(layer)
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH,
			"os":           "linux",
			"created":      time.Unix(0, 0).UTC(),
			"config": map[string]any{
				"Entrypoint": []string{"/" + i.program},
				"User":       i.user,
				"Env":        []string{"PATH=/"},
			},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerDigest}},
		})
		if err != nil {
			return err
		}
		entry := archiveEntry{Config: digest(config) + ".json", RepoTags: i.tags, Layers: []string{layerDigest + "/layer.tar"}}
		if err := writeFile(archive, entry.Config, config, 0o644); err != nil {
			return err
		}
		if !written[entry.Layers[0]] {
			if err := writeFile(archive, entry.Layers[0], layer, 0o644); err != nil {
				return err
			}
		}
		written[entry.Layers[0]] = true
		manifest = append(manifest, entry)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := writeFile(archive, "manifest.json", text, 0o644); err != nil {
		return err
	}
	return archive.Close()
}

// layerOf is a root file system with the program and a writable /tmp.
func layerOf(name string, program []byte) ([]byte, error) {
	var buffer bytes.Buffer
	layer := tar.NewWriter(&buffer)
	if err := layer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if err := writeFile(layer, name, program, 0o755); err != nil {
		return nil, err
	}
	if err := layer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func writeFile(archive *tar.Writer, name string, content []byte, mode int64) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0)}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
