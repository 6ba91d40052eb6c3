# Fetches Debian 13's netavark, with the C library that it needs, into the directory $1: that of Debian 12 has
# no plugins. Works as an ordinary user: apt's state is in a scratch directory, and the machine's own is only read.
set -eu
out=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages" "$scratch/files"

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | sed -n 1p)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} trixie main" >"$scratch/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User= "$@"
}
cd "$scratch/packages"
apt update
apt download netavark libc6 libgcc-s1
for package in ./*.deb; do
    dpkg-deb -x "$package" "$scratch/files"
done
cd "$scratch/files"
mkdir "$scratch/netavark"
find . -name 'ld-linux*.so*' -exec cp -L {} "$scratch/netavark/loader" \;
for library in libc.so.6 libm.so.6 libgcc_s.so.1; do
    find . -name "$library" -exec cp -L {} "$scratch/netavark/" \;
done
cp usr/lib/podman/netavark "$scratch/netavark/"
rm -rf "$out"
mv "$scratch/netavark" "$out"
