# Run by mmdebstrap with the new root as $1, once its packages are installed. What it writes is in the tar, and so in the key.
set -eu
root=$1

echo "$SOURDOUGH_USER:x:$SOURDOUGH_UID:$SOURDOUGH_GID::$SOURDOUGH_HOME:/bin/sh" >>"$root/etc/passwd"
echo "$SOURDOUGH_USER:x:$SOURDOUGH_GID:" >>"$root/etc/group"
echo "$SOURDOUGH_USER:!:0::::::" >>"$root/etc/shadow"
mkdir -p "$root$SOURDOUGH_ROOT"
chown -R "$SOURDOUGH_UID:$SOURDOUGH_GID" "$root$SOURDOUGH_HOME"

printf '127.0.0.1\tlocalhost %s\n::1\tlocalhost\n' "$SOURDOUGH_HOSTNAME" >"$root/etc/hosts"
# mmdebstrap lends the new root the host's files of these names and takes back what is still as it lent it.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
echo "$SOURDOUGH_HOSTNAME" >"$root/etc/hostname"
: >"$root/etc/resolv.conf"

# What dpkg was told for this installation only.
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

if [ -n "$SOURDOUGH_CA" ]; then
	install -D -m 644 "$SOURDOUGH_CA" "$root$SOURDOUGH_CA_BUNDLE"
fi

chroot "$root" dpkg-query --show --showformat '${binary:Package}=${Version}\n' >"$SOURDOUGH_PACKAGES"
