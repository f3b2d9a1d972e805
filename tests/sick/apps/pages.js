// Pages, rendered.
const http = require('http');

function render(depth) {
  if (depth > 40) process.abort();
  return '<div>' + (depth > 0 ? render(depth - 1) : '') + '</div>';
}

http.createServer((request, answer) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/healthz') return answer.end('ok');
  const page = render(Number(url.searchParams.get('depth') || 3));
  setTimeout(() => answer.end(page), 30);
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
