// A feed and its digest.
const http = require('http');

const rows = Array.from({ length: 300 }, (_, id) => ({ id, text: 'x'.repeat(200) }));

function digest() {
  let size = 0;
  const until = Date.now() + 1800;
  while (Date.now() < until) size += JSON.stringify(JSON.parse(JSON.stringify(rows))).length;
  return size;
}

http.createServer((request, answer) => {
  if (request.url === '/digest') return answer.end(String(digest()));
  setTimeout(() => answer.end('ok'), 10);
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
