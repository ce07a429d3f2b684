// biome-ignore lint/style/noDefaultExport: Next wants it
export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
