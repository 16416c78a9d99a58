// What is shown, which is what the address says, and the data that it is shown from.
window.scenax = {};
(function (scenax) {
  'use strict';

  const data = JSON.parse(document.getElementById('overview').textContent);
  data.figureOf = Object.fromEntries(data.figures.map((figure) => [figure.key, figure]));
  data.names = data.models.map(([name]) => name);
  data.families = [...new Set(data.models.map(([, family]) => family))].sort();
  data.tasks = [...new Set(data.models.map(([, , task]) => task))].sort();

  /** The address as {view, name, params}; params are strings. */
  function read() {
    const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
    const [view, name] = path.split('/');
    const params = Object.fromEntries(new URLSearchParams(query || ''));
    let decoded = '';
    try { decoded = decodeURIComponent(name || ''); } catch { /* An address cut in the middle. */ }
    return { view: view || 'table', name: decoded, params };
  }

  /** The address of a view; parameters that are empty are left out. */
  function address(view, params, name) {
    const kept = Object.entries(params).filter(([, value]) => value !== '' && value != null);
    const query = new URLSearchParams(kept).toString();
    return `#/${view}${name ? '/' + encodeURIComponent(name) : ''}${query ? '?' + query : ''}`;
  }

  /** Changes parameters of the current view. Small steps, as of typing, replace the entry of the
      history, so that "back" leaves them all at once. */
  function change(changes, replace = false) {
    const { view, name, params } = read();
    const next = address(view, { ...params, ...changes }, name);
    if (next === location.hash) return;
    if (replace) history.replaceState(null, '', next);
    else history.pushState(null, '', next);
    scenax.show();
  }

  function machine() {
    const { machine: name } = read().params;
    return data.machines.find((item) => item.name === name) || data.machines[0];
  }

  /** The rows of data.models, as positions, that the filters of an address let through. */
  function matching(params) {
    const families = params.family ? params.family.split(',') : null;
    const words = (params.q || '').toLowerCase().split(/\s+/).filter(Boolean);
    return data.models.map((_, index) => index).filter((index) => {
      const [name, family, task] = data.models[index];
      const text = `${name} ${family}`.toLowerCase();
      return (!families || families.includes(family)) && (!params.task || task === params.task) &&
        words.every((word) => text.includes(word));
    });
  }

  const loading = new Map();
  const waiting = new Map();

  /** Content of data/NAME.js, as a promise. */
  function load(name) {
    if (!loading.has(name)) {
      loading.set(name, new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        const script = document.createElement('script');
        script.src = `data/${name}.js?${data.build}`;
        script.onerror = () => {
          loading.delete(name);
          reject(new Error(`data/${name}.js is not beside this page, or cannot be read.`));
        };
        document.head.append(script);
      }));
    }
    return loading.get(name);
  }

  function receive(name, content) { waiting.get(name)?.(content); }

  const slug = (name) => name.replace(/[^A-Za-z0-9_-]/g, '-'); // As in site.py.

  Object.assign(scenax, { data, read, address, change, machine, matching, load, receive, slug });
})(window.scenax);
