# Builds cnitool, CNI's own caller, as the file $1. No Debian package has it; the source package
# golang-github-appc-cni does, and its tests apart it needs nothing but the Go compiler.
# Works as an ordinary user: apt's state is in a scratch directory, and the machine's own is only read.
set -eu
out=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/parts" "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/source"

# The machine's own sources, asked for source packages.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >>"$scratch/parts/lines.list"
done
for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$scratch/parts/$(basename "$file")"
done
apt() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/parts" \
        -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User= "$@"
}
cd "$scratch/source"
apt update
apt source --download-only golang-github-appc-cni
tar -xf ./*.orig.tar.*
cd ./*/

# Its go.mod names what only its tests need.
printf 'module github.com/containernetworking/cni\n\ngo 1.14\n' >go.mod
rm -f go.sum
HOME=$scratch GOCACHE=$scratch/gocache GOFLAGS= GOPROXY=off go build -o "$scratch/cnitool" ./cnitool
mv "$scratch/cnitool" "$out.new"
mv "$out.new" "$out"
